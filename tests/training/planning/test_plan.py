"""The calculator against closed forms."""

import json
import subprocess
import sys

import pytest

from training.planning.communication import CHECKPOINTING
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
    assert stage.texts(1200).phrases == 4000 + 10_000


def test_one_device_sends_nothing():
    plan = Plan(**{**PLAN, "devices": 1})
    assert plan.collectives() == ([], [])
    assert plan.summary()["sent by a rank a step (MB)"]["embeddings"] == 0


def test_checkpointing_saves_memory():
    none, selective, blocks = (Plan(**PLAN, checkpointing=kind).memory()["activations"] for kind in CHECKPOINTING)
    assert blocks < selective / 2 < none / 5


@pytest.mark.parametrize("stage", [1, 2])
def test_fgclip2_is_planned_too(stage):
    plan = Plan(**{**PLAN, "stage": stage, "model": "fgclip2-base"}, batch=64, patches=576)
    summary = plan.summary()
    # Texts at full length: 64 tokens, long captions 196.
    phrases = round(64 * (40 + 100) / 12) if stage == 2 else 0
    assert summary["work"]["text tokens an image"] == (64 * (64 + 196) + phrases * 64) / 64
    sent = {collective.purpose for collective in plan.collectives()[0]}
    assert ("rewrites: texts" in sent) == (stage == 2)
    # A token table that no stage leaves out, and heads of regions that stage 1 does.
    assert summary["work"]["parameters (M)"] == pytest.approx({1: 376, 2: 384}[stage], rel=0.01)
    more = Plan(**{**PLAN, "stage": stage, "model": "fgclip2-base"}, batch=64)
    assert more.memory()["activations"] > plan.memory()["activations"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stage": 3}, "stages 1 and 2"),
        ({"device": "abacus"}, "H100"),
        ({"strategy": "zero9"}, "zero2"),
        ({"devices": 0}, "above 0"),
        ({"mfu": 40}, "between 0 and 1"),
        ({"model": "b32"}, "b16"),
        ({"patches": 256}, "all have 576"),
        ({"patches": 0, "model": "fgclip2-base"}, "above 0"),
        ({"checkpointing": "all"}, "selective"),
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
