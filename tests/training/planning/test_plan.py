"""The calculator against closed forms."""

import json
import subprocess
import sys

import pytest

from training.planning.plan import STAGES, Plan

PLAN = {"stage": 2, "model": "l14-336", "devices": 8, "device": "H100"}


def test_steps_and_hours():
    plan = Plan(**PLAN, batch=500, images_per_second=250.0, price=2.0)
    assert plan.steps == 12_000_000 // 4000
    assert plan.hours() == pytest.approx(12e6 / (250 * 8) / 3600)
    assert plan.summary()["time"]["cost"] == pytest.approx(plan.hours() * 8 * 2)


def test_an_assumed_utilisation_is_met():
    summary = Plan(**PLAN, mfu=0.3).summary()
    assert summary["time"]["MFU"] == pytest.approx(0.3)
    assert "assumed" in summary["time"]["from"]


def test_stage_2_has_the_phrases_of_finehard():
    stage = STAGES[2]
    assert stage.images * stage.regions == pytest.approx(40e6)
    # One in four regions has ten negatives.
    assert stage.hard_texts / 10 / stage.regions == pytest.approx(1 / 4)
    assert sum(texts for texts, _ in stage.length_groups(1200)) == 1200 * 2 + 4000 + 10_000


def test_one_device_sends_nothing():
    plan = Plan(**{**PLAN, "devices": 1})
    assert plan.collectives() == ([], [])
    assert plan.summary()["sent by a rank a step (MB)"]["embeddings"] == 0


def test_checkpointing_saves_memory():
    memory = [Plan(**PLAN, checkpointing=on).memory()["activations"] for on in (False, True)]
    assert memory[1] < memory[0] / 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stage": 3}, "stages 1 and 2"),
        ({"device": "abacus"}, "H100"),
        ({"strategy": "zero9"}, "zero2"),
        ({"devices": 0}, "above 0"),
        ({"mfu": 40}, "between 0 and 1"),
        ({"model": "b32"}, "b16"),
    ],
)
def test_impossible_plans_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Plan(**{**PLAN, **changed}).summary()


def test_command_line():
    command = "-m training.plan --stage 1 --model b16 --devices 64 --device A100 --json"
    done = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout)
    assert summary["work"]["steps"] == int(1.6e9) // (384 * 64)
