"""The memory of a run on a CPU stays flat, once oneDNN has as many shapes as it may keep: after some 80 steps."""

import json
import platform

import pytest
import yaml

from benchmarks.measure import run_alone
from dataset_scripts.sample import generate_sample
from training import RECIPES
from training.data.sources import load_records
from training.random_checkpoint import create_checkpoint, texts_of


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to give memory back")
def test_resident_memory_is_that_of_earlier_steps(tmp_path):
    sample, model = tmp_path / "sample", tmp_path / "model"
    generate_sample(sample, train=64, test=1)
    records = load_records([str(sample / "train")])
    create_checkpoint(yaml.safe_load((RECIPES / "tiny_model.yaml").read_text()), texts_of(records), model, 0)
    given = ["--model", str(model), "--train-data", str(sample / "train"), "--batch-size", "4", "--steps", "80", "160"]
    notes = run_alone("benchmarks.host_memory", [*given, "--alone", "bounded"])
    (earlier, *_), (later, *_) = notes["80"], notes["160"]
    assert later < 1.05 * earlier, json.dumps(notes)
