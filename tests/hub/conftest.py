"""A Hub on this machine, clients of it in fresh processes, and a tiny run that was published there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub_stand_in import HubStandIn, hub_stand_in

# A process that knows transformers but not this project: no editable install, no checkout on the path.
WITHOUT_PROJECT = """
import importlib.util, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.path[:] = [path for path in sys.path if path != {root!r}]
assert all(importlib.util.find_spec(name) is None for name in ("modeling_fgclip", "training", "eval"))
"""
ROOT = Path(__file__).parents[2]

Run = Callable[..., "dict | list | None"]


@pytest.fixture(scope="session")
def hub() -> Iterator[HubStandIn]:
    with hub_stand_in() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def run_client(hub: HubStandIn, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Python against the Hub in a fresh process and folder; returns what it printed last, as JSON.

    With `project=False` nothing of this project can be imported there. Standard output and error are checked for the
    token.
    """
    home = tmp_path_factory.mktemp("hub_home")

    def run(code: str, cwd: Path, project: bool = True, offline: bool = False) -> dict | list | None:
        environment = hub.environment(home) | ({"HF_HUB_OFFLINE": "1"} if offline else {})
        environment |= {"PYTHONPATH": str(ROOT) if project else "", "OMP_NUM_THREADS": "1"}
        if not project:
            code = WITHOUT_PROJECT.format(root=str(ROOT)) + code
        script = cwd / "client.py"
        script.write_text(code, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(script)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        assert environment["HF_TOKEN"] not in done.stdout + done.stderr
        last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "null"
        return json.loads(last)

    return run


TRAIN = """
import json, sys, yaml
from pathlib import Path
from dataset_scripts.sample import generate_sample
from training.arguments import Stage2Arguments
from training.cli import parse_arguments
from training.data.sources import load_records
from training.random_checkpoint import create_checkpoint, texts_of
from training.stages import train

sample = generate_sample(Path("sample"), seed=3, train=16, test=8, image_size=64)
small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
vision = {**small, "image_size": 64, "patch_size": 16}
settings = {"vocab_size": 600, "projection_dim": 16, "text_config": small, "vision_config": vision}
create_checkpoint(settings, texts_of(load_records(["sample/train"])), "start", 0)
arguments = ["--model_name_or_path", "start", "--train_data", "sample/train", "--output_dir", "run", "--max_steps", "2",
    "--per_device_train_batch_size", "8", "--use_cpu", "--report_to", "none", "--logging_steps", "1", "--save_steps", "1",
    "--push_to_hub", "--hub_model_id", "tester/tiny-fgclip", "--learning_rate", "1e-3", "--disable_tqdm", "True"]
train(*parse_arguments(Stage2Arguments, arguments))
print("null")
"""


@pytest.fixture(scope="session")
def published(run_client: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps that the trainer pushed as tester/tiny-fgclip (to every checkpoint, and at the end)."""
    folder = tmp_path_factory.mktemp("published")
    run_client(TRAIN, folder)
    return folder / "run"
