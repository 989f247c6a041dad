"""A step on the GPU by every path: the CPU's losses and gradients, no waiting, and as much memory as is planned."""

import copy

import pytest
import torch
from torch.utils._pytree import tree_map_only

from modeling_fgclip.family import family_of
from tests.training.one_step import (
    FGCLIP,
    FGCLIP2,
    PATHS,
    Settings,
    configuration,
    evaluate,
    make_batches,
    prepare,
    train,
)
from training.architectures import architecture
from training.planning.communication import CHECKPOINTING
from training.planning.families import planned_family
from training.planning.memory import autocast_copies, peak_bytes

# Of the whole gradient and of the losses: with bfloat16's eight bits, and with float32's, summed in other orders.
TOLERANCE = {True: 5e-2, False: 1e-4}


def on(device: str, batches: list[dict]) -> list[dict]:
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), batches)


def distance(given: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative."""
    given, expected = given.double().cpu(), expected.double().cpu()
    return ((given - expected).norm() / expected.norm().clamp(min=1e-12)).item()


@pytest.mark.parametrize("path", PATHS)
def test_equals_the_cpu(path, device):
    settings = Settings(**PATHS[path])
    torch.manual_seed(0)
    config = configuration(settings)
    model = family_of(config).model(config)
    batches = make_batches(config, settings)
    run = evaluate if settings.evaluation else train
    plain = Settings(**{**PATHS[path], "half": False, "checkpointing": "none"})
    torch.manual_seed(1)
    expected = run(prepare(copy.deepcopy(model), plain), batches, plain, "cpu")
    torch.manual_seed(1)
    given = run(prepare(model, settings).to(device), on(device, batches), settings, device)
    assert given.keys() == expected.keys()
    assert {value.device.type for value in given.values()} == {torch.device(device).type}
    gradients = [name for name in given if "." in name or name.startswith("logit")]
    far = {name: distance(given[name], expected[name]) for name in given if name not in gradients}
    if gradients:
        far["gradient"] = distance(
            *(torch.cat([v[name].float().cpu().flatten() for name in gradients]) for v in (given, expected))
        )
    assert max(far.values()) < TOLERANCE[settings.half], far


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith("FG-CLIP 2") and path != "evaluation"])
def test_waits_for_nothing(path, device):
    """Everything that the host needs to know lies on the host."""
    if device == "cpu":
        pytest.skip("a CPU waits for nothing")
    settings = Settings(**PATHS[path])
    config = configuration(settings)
    model = prepare(family_of(config).model(config), settings).to(device)
    batches = on(device, make_batches(config, settings))
    train(model, batches, settings, device)  # what is set up at first use
    torch.cuda.set_sync_debug_mode("error")
    try:
        train(model, batches, settings, device)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("checkpointing", CHECKPOINTING)
@pytest.mark.parametrize("model", ["b16", "l14-336", "fgclip2-base"])
def test_memory_is_planned_within_a_tenth(model, checkpointing, device):
    if device == "cpu":
        pytest.skip("counts what the GPU's allocator gave out")
    family = FGCLIP2 if model.startswith("fgclip2") else FGCLIP
    settings = Settings(
        **{**family, "model": model, "settings": None, "images": 64, "case": "typical", "checkpointing": checkpointing}
    )
    config = architecture(model)
    with torch.device(device):
        built = prepare(family_of(config).model(config), settings)
    (batch,) = on(device, make_batches(config, settings))
    for parameter in built.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    train(built, [batch], settings, device)
    held = torch.cuda.max_memory_allocated() - before
    planned_for = planned_family(config)
    patches = config.vision_config.num_patches if model.startswith("fgclip2") else planned_for.patches(config)
    encoders = planned_for.encoders(config, 64, patches, batch["packed_texts"]["length_groups"], regions=True)
    planned = peak_bytes(encoders, True, checkpointing) + autocast_copies(config, "ddp", checkpointing)
    print(f"{model} {checkpointing}: held {held / 1e9:.2f} GB, planned {planned / 1e9:.2f} GB")
    assert planned == pytest.approx(held, rel=0.1)
