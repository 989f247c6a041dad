"""Two processes against one: the same loss and the same gradients, with uneven regions and with none."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from tests.training.records import make_record
from training.data.collator import FGCLIPCollator
from training.efficiency.gradient_cache import cache_gradients
from training.forward import embed
from training.objective import Objective, parse_losses
from training.options import STAGE2_LOSSES
from training.temperatures import TEMPERATURES

OBJECTIVES = {
    "FG-CLIP": Objective(parse_losses(STAGE2_LOSSES)),
    "peers": Objective(parse_losses(["long_clip", "regional=1", "self_distillation"])),
}

# (regions, negatives) of each of the four records of each of the two processes.
CASES = {
    "uneven": [[(3, 4), (1, 0), (0, 0), (4, 10)], [(1, 2), (0, 0), (2, 0), (0, 0)]],
    "one without": [[(2, 3), (4, 10), (1, 1), (2, 0)], [(0, 0), (0, 0), (0, 0), (0, 0)]],
    "none": [[(0, 0)] * 4, [(0, 0)] * 4],
}


def shares(case: str) -> list[list[dict]]:
    return [
        [make_record(4 * rank + index, regions, negatives) for index, (regions, negatives) in enumerate(rows)]
        for rank, rows in enumerate(CASES[case])
    ]


def start(checkpoint: str | Path, kind: str) -> FGCLIPModel:
    """The model, whose temperatures wait for a gradient only if there will be one."""
    model = FGCLIPModel.from_pretrained(checkpoint)
    for name in TEMPERATURES:
        getattr(model, name).requires_grad_(name in OBJECTIVES[kind].temperatures.values())
    return model


def step(model: torch.nn.Module, processor: FGCLIPProcessor, records: list[dict], kind: str) -> tuple[float, dict]:
    """Loss and gradients of one batch."""
    without_choice(records)
    objective = OBJECTIVES[kind]
    batch = FGCLIPCollator(processor, **objective.collation())(records)
    loss = objective.total(objective.losses(embed(model, batch), batch))
    loss.backward()
    return loss.item(), gradients_of(getattr(model, "module", model))


def gradients_of(model: torch.nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def without_choice(records: list[dict]) -> None:
    """Leaves each region one expression, so that one and two processes make the same choice."""
    for record in records:
        for region in record["regions"]:
            region["long_expr"] = None


def cached_step(
    model: DistributedDataParallel, processor: FGCLIPProcessor, records: list[dict], kind: str
) -> tuple[float, dict]:
    """The same with gradient caching, in batches of two records."""
    without_choice(records)
    objective = OBJECTIVES[kind]
    collate = FGCLIPCollator(processor, **objective.collation())
    batches = [collate(records[start : start + 2]) for start in range(0, len(records), 2)]
    losses, cached = cache_gradients(lambda batch: embed(model, batch), batches, objective, torch.device("cpu"))
    for index, (batch, cache) in enumerate(zip(batches, cached, strict=True)):
        with nullcontext() if index == len(batches) - 1 else model.no_sync():
            cache.loss(embed(model, batch)).backward()
    return objective.total(losses).item(), gradients_of(model.module)


def worker(rank: int, checkpoint: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    processor = FGCLIPProcessor.from_pretrained(checkpoint)
    for kind in OBJECTIVES:
        for case in CASES:
            model = DistributedDataParallel(start(checkpoint, kind))
            for name, run in (("plain", step), ("cached", cached_step)):
                loss, gradients = run(model, processor, shares(case)[rank], kind)
                torch.save({"loss": loss, "gradients": gradients}, f"{folder}/{kind}-{case}-{name}-{rank}.pt")
                model.zero_grad()
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a checkpoint and that of what two processes made of it."""
    from tests.conftest import make_processor, make_tiny_model

    checkpoint, folder = tmp_path_factory.mktemp("checkpoint"), tmp_path_factory.mktemp("results")
    processor = make_processor()
    make_tiny_model(processor).save_pretrained(checkpoint)
    processor.save_pretrained(checkpoint)
    mp.spawn(worker, (str(checkpoint), str(folder)), nprocs=2)
    return checkpoint, folder


@pytest.mark.parametrize("way", ["plain", "cached"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_two_processes_equal_one(two_processes, kind, case, way):
    checkpoint, folder = two_processes
    ranks = [torch.load(folder / f"{kind}-{case}-{way}-{rank}.pt") for rank in range(2)]
    records = [record for share in shares(case) for record in share]
    loss, gradients = step(start(checkpoint, kind), FGCLIPProcessor.from_pretrained(checkpoint), records, kind)
    assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, loss, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        for rank in ranks:
            got = rank["gradients"][name]
            if got is None or gradient is None:  # none and zero are the same
                assert all(one is None or not one.any() for one in (got, gradient)), name
            else:
                assert_close(got, gradient, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
