"""A step without hardware: every tensor on the device that the step is on, and as much memory as is planned."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.one_step import FGCLIP, FGCLIP2, PATHS
from training.architectures import architecture
from training.planning.communication import CHECKPOINTING
from training.planning.families import planned_family
from training.planning.memory import peak_bytes

ROOT = Path(__file__).parents[3]
STRAYS = {name: {**FGCLIP, "stray": name} for name in ("boxes", "hard_index", "packed_texts")}


def run(settings: list[dict]) -> list[dict]:
    command = [sys.executable, "-m", "tests.training.planning.simulated_step", json.dumps(settings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def results() -> dict[str, dict]:
    settings = PATHS | STRAYS
    return dict(zip(settings, run(list(settings.values())), strict=True))


@pytest.mark.parametrize("path", PATHS)
def test_nothing_lies_on_another_device(path, results):
    assert results[path].get("places", results[path]) == ["simulated"]


@pytest.mark.parametrize("stray", STRAYS)
def test_a_tensor_that_stayed_on_the_cpu_is_found(stray, results):
    assert "two devices" in results[stray]["error"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["b16", "l14-336", "fgclip2-base"])
def test_memory_is_planned_within_a_tenth(model):
    settings = FGCLIP2 if model.startswith("fgclip2") else FGCLIP
    settings = {**settings, "model": model, "settings": None, "images": 64, "case": "typical"}
    config = architecture(model)
    family = planned_family(config)
    patches = config.vision_config.num_patches if model.startswith("fgclip2") else family.patches(config)
    results = run([{**settings, "checkpointing": kind} for kind in CHECKPOINTING])
    held = {kind: result["peak"] for kind, result in zip(CHECKPOINTING, results, strict=True)}
    encoders = family.encoders(config, 64, patches, results[0]["groups"], regions=True)
    planned = {kind: peak_bytes(encoders, True, kind) for kind in CHECKPOINTING}
    assert planned == pytest.approx(held, rel=0.1)
