"""Planned collectives against those that torch really runs.

With 2 and 4 processes, and as one rank of many whose others are not there: torch's fake process group sends nothing, but
every collective is asked for with the sizes of so many ranks.
"""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.stage2_batch import MAX_REGIONS, NEGATIVES, make_batch
from modeling_fgclip import FGCLIPConfig, FGCLIPModel
from tests.conftest import TINY, make_fgclip2_processor, make_tiny_fgclip2
from tests.training.sharding import shard
from training.forward import embed
from training.objective import Objective, parse_losses
from training.options import STAGE1_LOSSES, STAGE2_LOSSES
from training.planning.communication import BFLOAT16, Collective, embedding_collectives, gradient_collectives
from training.planning.families import planned_family
from training.temperatures import TEMPERATURES, prepare_temperatures

IMAGES = 3
MANY = (8, 64, 160)
FGCLIP2_LOSSES = ["sigmoid", "regional", "textual", "hard_contrastive", "hard", "rank"]
OBJECTIVES = {
    "stage1": Objective(parse_losses(STAGE1_LOSSES)),
    "hard": Objective(parse_losses(STAGE2_LOSSES)),
    "peers": Objective(parse_losses(["long_clip", "regional", "self_distillation"])),
    "fgclip2": Objective(parse_losses(FGCLIP2_LOSSES)),
    "typical": Objective(parse_losses(STAGE2_LOSSES), regional_over_ranks=False),
}
CLIP_OBJECTIVES = {name: objective for name, objective in OBJECTIVES.items() if name != "fgclip2"}
ITEM_SIZES = {"float": 4, "long int": 8, "bool": 1}


def build_model() -> FGCLIPModel:
    torch.manual_seed(0)
    ids = {"vocab_size": 100, "bos_token_id": 98, "eos_token_id": 99, "pad_token_id": 99}
    return FGCLIPModel(FGCLIPConfig(**{**TINY, "text_config": {**TINY["text_config"], **ids}}))


def worker(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    for case, objective in CLIP_OBJECTIVES.items():
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


def rows(batch: dict) -> dict[str, int]:
    """Of a rank, by what ranks exchange."""
    regions = len(batch.get("hard_index", ()))
    return {
        "images": IMAGES,
        "regions": IMAGES * MAX_REGIONS,
        "hard regions": regions,
        "rewrites": regions * NEGATIVES,
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", CLIP_OBJECTIVES)
def test_a_step_sends_what_is_planned(traces, case):
    ranks, folder = traces
    model = build_model()
    unused = 3 - len(set(OBJECTIVES[case].temperatures.values()))
    trained = sum(parameter.numel() for parameter in model.parameters()) - unused
    collectives = embedding_collectives(model.config.projection_dim, rows({}), OBJECTIVES[case], ranks)
    collectives += gradient_collectives(trained, "ddp", ranks)
    assert sent(folder / f"{case}.json") == planned(collectives, ranks)


class Asked(TorchDispatchMode):
    """Whole sizes of the collectives that are asked for, by kind."""

    KINDS = ("all_reduce", "all_gather", "reduce_scatter")

    def __init__(self, ranks: int):
        super().__init__()
        self.ranks, self.sizes = ranks, Counter()

    def __torch_dispatch__(self, operation, types, arguments=(), settings=None):
        if operation.namespace in ("c10d", "_c10d_functional"):
            name = (
                operation.name().split("::")[1].replace("allreduce", "all_reduce").replace("allgather", "all_gather")
            )
            kind = next((kind for kind in self.KINDS if kind in name), None)
            if kind:
                tensors = [value for value in tree_leaves(arguments) if isinstance(value, torch.Tensor)]
                # c10d's have the result among the arguments: the larger of the two is the whole.
                whole = (
                    max(tensor.nbytes for tensor in tensors)
                    if kind != "all_reduce"
                    else sum(tensor.nbytes for tensor in tensors)
                )
                functional = operation.namespace == "_c10d_functional"
                self.sizes[kind] += whole * (self.ranks if functional and kind == "all_gather" else 1)
        return operation(*arguments, **(settings or {}))


def wrap_ddp(model: FGCLIPModel) -> torch.nn.Module:
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    wrapped.register_comm_hook(None, reduced)
    return wrapped


def reduced(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """What DDP does with a bucket by itself, but that the fake group's answer is none."""
    dist.all_reduce(bucket.buffer())
    future = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def wrap_fsdp2(model: FGCLIPModel) -> torch.nn.Module:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


WRAPPED = {"ddp": wrap_ddp, "fsdp2": wrap_fsdp2}


def one_of_many(_: int, folder: str) -> None:
    torch.set_num_threads(1)
    for ranks in MANY:
        dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=ranks)
        asked = {}
        for name, (model, objective, case) in lone_ranks().items():
            batch = make_batch(model.config, IMAGES, case)
            with Asked(ranks) as collectives:
                objective.total(objective.losses(embed(model, batch), batch)).backward()
            asked[name] = collectives.sizes
        for strategy, wrap in WRAPPED.items():
            model, objective = build_model(), OBJECTIVES["hard"]
            batch = make_batch(model.config, IMAGES, "hard")
            prepare_temperatures(model)
            model = wrap(model)
            with Asked(ranks) as collectives:
                objective.total(objective.losses(embed(model, batch), batch)).backward()
            asked[strategy] = collectives.sizes
        Path(folder, f"{ranks}.json").write_text(json.dumps(asked))
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    mp.spawn(one_of_many, (str(folder),), nprocs=1)
    return folder


def lone_ranks() -> dict[str, tuple[torch.nn.Module, Objective, str]]:
    """A model, an objective and a batch's case by the name of the model."""
    fgclip, fgclip2 = build_model(), make_tiny_fgclip2(make_fgclip2_processor())
    return {"FG-CLIP": (fgclip, OBJECTIVES["hard"], "hard"), "FG-CLIP 2": (fgclip2, OBJECTIVES["fgclip2"], "hard")}


@pytest.mark.parametrize("ranks", MANY)
def test_embeddings_of_many_ranks_are_as_planned(ranks, asked):
    sizes_of = json.loads((asked / f"{ranks}.json").read_text())
    for name, (model, objective, case) in lone_ranks().items():
        width = planned_family(model.config).width(model.config)
        counts = rows(make_batch(model.config, IMAGES, case))
        sizes = Counter()
        for collective in embedding_collectives(width, counts, objective, ranks):
            sizes[collective.kind] += collective.size
        assert sizes_of[name] == sizes


@pytest.mark.parametrize("ranks", MANY)
@pytest.mark.parametrize("strategy", WRAPPED)
def test_gradients_of_many_ranks_are_as_planned(strategy, ranks, asked):
    """FSDP2 cuts each parameter along its first dimension into equal parts, and so fills up what does not divide.

    The last image block's MLP works twice, for global and for dense features, and so is gathered twice as often.
    """
    model, sizes = build_model(), Counter()
    prepare_temperatures(model)

    def numbers(module: torch.nn.Module) -> int:
        parts = ranks if strategy == "fsdp2" else 1
        return sum(-(-len(weight) // parts) * parts * weight[0].numel() for weight in module.parameters())

    embeddings = embedding_collectives(
        model.config.projection_dim, rows(make_batch(model.config, IMAGES, "hard")), OBJECTIVES["hard"], ranks
    )
    for collective in embeddings + gradient_collectives(numbers(model), strategy, ranks):
        sizes[collective.kind] += collective.size
    if strategy == "fsdp2":
        sizes["all_gather"] += 2 * BFLOAT16 * numbers(model.vision_model.encoder.layers[-1].mlp)
    assert json.loads((asked / f"{ranks}.json").read_text())[strategy] == sizes
