"""Planned collectives against those that torch really runs, with 2 and 4 processes."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from benchmarks.stage2_batch import MAX_REGIONS, make_batch
from modeling_fgclip import FGCLIPConfig, FGCLIPModel
from tests.conftest import TINY
from training.forward import embed
from training.objective import Objective, parse_losses
from training.options import STAGE1_LOSSES, STAGE2_LOSSES
from training.planning.communication import Collective, embedding_collectives, gradient_collectives
from training.temperatures import TEMPERATURES

IMAGES = 3
OBJECTIVES = {
    "stage1": Objective(parse_losses(STAGE1_LOSSES)),
    "hard": Objective(parse_losses(STAGE2_LOSSES)),
    "peers": Objective(parse_losses(["long_clip", "regional", "self_distillation"])),
    "typical": Objective(parse_losses(STAGE2_LOSSES), regional_over_ranks=False),
}
ITEM_SIZES = {"float": 4, "long int": 8, "bool": 1}


def build_model() -> FGCLIPModel:
    torch.manual_seed(0)
    ids = {"vocab_size": 100, "bos_token_id": 98, "eos_token_id": 99, "pad_token_id": 99}
    return FGCLIPModel(FGCLIPConfig(**{**TINY, "text_config": {**TINY["text_config"], **ids}}))


def worker(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    for case, objective in OBJECTIVES.items():
        module = build_model()
        for name in TEMPERATURES:
            getattr(module, name).requires_grad_(name in objective.temperatures.values())
        # Its buffers are position ids, the same everywhere.
        model = DistributedDataParallel(module, broadcast_buffers=False)
        batch = make_batch(module.config, IMAGES, "hard" if case == "peers" else case, seed=rank)
        if "crops" in objective.needs:
            batch["crop_index"] = torch.arange(2)
            batch["crops"] = torch.randn(2, *batch["pixel_values"].shape[1:])
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
            objective.total(objective.losses(embed(model, batch), batch)).backward()
        if rank == 0:
            profiler.export_chrome_trace(f"{folder}/{case}.json")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """The number of processes, and the folder with what the first of them ran in a step of each case."""
    folder = tmp_path_factory.mktemp("traces")
    mp.spawn(worker, (request.param, str(folder)), nprocs=request.param)
    return request.param, folder


def sent(path: Path) -> Counter:
    """Bytes handed to gloo by kind, and those that were to be scattered after they were reduced."""
    totals: Counter = Counter()
    for event in json.loads(path.read_text())["traceEvents"]:
        name, arguments = event.get("name", ""), event.get("args", {})
        if name.startswith("gloo:"):
            items = sum(math.prod(shape) for shape in arguments["Input Dims"])
            totals[name.removeprefix("gloo:")] += items * ITEM_SIZES[arguments["Input type"][0]]
        elif name.startswith("c10d::reduce_scatter"):
            totals["reduce_scatter"] += 4 * sum(math.prod(shape) for shape in arguments["Input Dims"][1])
    return totals


def planned(collectives: list[Collective], ranks: int) -> Counter:
    totals: Counter = Counter()
    for collective in collectives:
        if collective.kind == "all_gather":
            totals["all_gather"] += collective.size // ranks  # what each rank gives
        else:
            totals["all_reduce"] += collective.size
        if collective.kind == "reduce_scatter":  # which gloo does as an all-reduce of which each rank keeps its part
            totals["reduce_scatter"] += collective.size
    return totals


@pytest.mark.slow
@pytest.mark.parametrize("case", OBJECTIVES)
def test_a_step_sends_what_is_planned(traces, case):
    ranks, folder = traces
    model = build_model()
    unused = 3 - len(set(OBJECTIVES[case].temperatures.values()))
    trained = sum(parameter.numel() for parameter in model.parameters()) - unused
    collectives = embedding_collectives(model.config, IMAGES, MAX_REGIONS, OBJECTIVES[case], ranks)
    collectives += gradient_collectives(trained, "ddp", ranks)
    assert sent(folder / f"{case}.json") == planned(collectives, ranks)
