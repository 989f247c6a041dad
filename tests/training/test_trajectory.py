import json

import pytest

from tests.training.loss_trajectory import FILE, trajectory


def test_thirty_steps_lose_what_was_recorded(tmp_path):
    """What any change to model, data, losses, optimizer or schedule would move; the committed numbers are the oracle."""
    expected, got = json.loads(FILE.read_text()), trajectory(tmp_path)
    assert len(got) == len(expected) == 30
    for step, (one, other) in enumerate(zip(got, expected, strict=True), 1):
        for name in ("loss", "loss_global", "loss_regional", "loss_hard"):
            assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-4), f"{name} of step {step}"
    assert got[-1]["loss"] < got[0]["loss"] - 0.5
