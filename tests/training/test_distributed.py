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
from training.arguments import STAGE2_LOSSES
from training.data.collator import FGCLIPCollator
from training.efficiency.gradient_cache import cache_gradients
from training.forward import embed
from training.objective import Objective, parse_losses

OBJECTIVE = Objective(parse_losses(STAGE2_LOSSES))

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


def step(model: torch.nn.Module, processor: FGCLIPProcessor, records: list[dict]) -> tuple[float, dict]:
    """Loss and gradients of one batch; prefers no random choice, so that one or two processes make the same one."""
    for record in records:
        for region in record["regions"]:
            region["long_expr"] = None
    batch = FGCLIPCollator(processor)(records)
    losses = OBJECTIVE.losses(
        model(**{name: batch[name] for name in ("pixel_values", "packed_texts", "boxes")}), batch
    )
    loss = OBJECTIVE.total(losses)
    loss.backward()
    module = getattr(model, "module", model)
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}
    return loss.item(), gradients


def without_choice(records: list[dict]) -> None:
    """Leaves each region one expression, so that one and two processes make the same choice."""
    for record in records:
        for region in record["regions"]:
            region["long_expr"] = None


def cached_step(model: DistributedDataParallel, processor: FGCLIPProcessor, records: list[dict]) -> tuple[float, dict]:
    """The same with gradient caching, in batches of two records."""
    without_choice(records)
    batches = [FGCLIPCollator(processor)(records[start : start + 2]) for start in range(0, len(records), 2)]
    losses, cached = cache_gradients(lambda batch: embed(model, batch), batches, OBJECTIVE)
    for index, (batch, cache) in enumerate(zip(batches, cached, strict=True)):
        with nullcontext() if index == len(batches) - 1 else model.no_sync():
            cache.loss(embed(model, batch)).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.module.named_parameters()}
    return OBJECTIVE.total(losses).item(), gradients


def worker(rank: int, checkpoint: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    processor = FGCLIPProcessor.from_pretrained(checkpoint)
    for case in CASES:
        model = DistributedDataParallel(FGCLIPModel.from_pretrained(checkpoint))
        loss, gradients = step(model, processor, shares(case)[rank])
        torch.save({"loss": loss, "gradients": gradients}, f"{folder}/{case}-{rank}.pt")
        model.zero_grad()
        loss, gradients = cached_step(model, processor, shares(case)[rank])
        torch.save({"loss": loss, "gradients": gradients}, f"{folder}/{case}-cached-{rank}.pt")
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


@pytest.mark.parametrize("kind", ["", "-cached"])
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(two_processes, case, kind):
    checkpoint, folder = two_processes
    ranks = [torch.load(folder / f"{case}{kind}-{rank}.pt") for rank in range(2)]
    model = FGCLIPModel.from_pretrained(checkpoint)
    records = [record for share in shares(case) for record in share]
    loss, gradients = step(model, FGCLIPProcessor.from_pretrained(checkpoint), records)
    assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, loss, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        for rank in ranks:
            expected = torch.zeros(()) if gradient is None else gradient
            got = rank["gradients"][name]
            assert_close(
                got, expected.expand_as(got), rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )
