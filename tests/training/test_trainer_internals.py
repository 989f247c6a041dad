"""The private names of Trainer that we build on: all listed, all there, in the oldest and newest supported versions."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import Trainer

from training.trainer_internals import CALLED, OVERRIDDEN

TRAINING = Path(__file__).parents[2] / "training"
LISTED = {**CALLED, **OVERRIDDEN}
# Methods, and attributes that are set as it runs.
PRIVATE = set(re.findall(r"self\.(_[a-z]\w*)", inspect.getsource(Trainer)))


@pytest.mark.parametrize("name", LISTED)
def test_each_listed_name_is_there_and_takes_what_we_give(name):
    parameters = list(inspect.signature(getattr(Trainer, name)).parameters)[1:]
    if LISTED[name] is not None:
        assert tuple(parameters[: len(LISTED[name])]) == LISTED[name]


def test_no_other_private_name_is_used():
    assert set(LISTED) <= PRIVATE
    uses = re.compile(r"(?:self|trainer|super\(\))\.(_[a-z]\w*)|def (_[a-z]\w*)\(self")
    files = {path: path.read_text() for path in TRAINING.rglob("*.py")}
    # Other classes have private names of their own, which may be called the same.
    code = [text for path, text in files.items() if path.name == "trainer.py" or '"FGCLIPTrainer"' in text]
    used = {name for text in code for pair in uses.findall(text) for name in pair if name in PRIVATE}
    assert used == set(LISTED)


@pytest.mark.slow
@pytest.mark.skipif("FGCLIP_OLDEST_TRANSFORMERS" not in os.environ, reason="needs a folder with the oldest version")
def test_with_the_oldest_transformers():
    """The folder is made by `pip install --no-deps --target FOLDER transformers==5.17.0 huggingface_hub==1.33.0`."""
    folder = os.environ["FGCLIP_OLDEST_TRANSFORMERS"]
    tests = [f"tests/training/{name}.py" for name in ("test_trainer_internals", "test_trainer", "test_evaluation")]
    environment = {name: value for name, value in os.environ.items() if name != "FGCLIP_OLDEST_TRANSFORMERS"}
    environment["PYTHONPATH"] = f"{folder}:{TRAINING.parent}"
    code = "import transformers; assert transformers.__version__.startswith('5.17'), transformers.__version__"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    program = [sys.executable, "-m", "pytest", "-q", *tests]
    done = subprocess.run(program, cwd=TRAINING.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
