"""The joined scores against their closed form."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from eval.detection.ensemble import ensemble

GENERATOR = torch.Generator().manual_seed(0)
DETECTOR, ENCODER = (torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64) * 3 for _ in range(2))
IS_BASE = torch.tensor([True, False, True])


def test_closed_form() -> None:
    scores = ensemble(DETECTOR, ENCODER, IS_BASE, 0.1, 0.8)
    p, q = DETECTOR.softmax(-1)[:, 1:], ENCODER.softmax(-1)[:, 1:]
    expected = torch.stack(
        [p[:, 0] ** 0.9 * q[:, 0] ** 0.1, p[:, 1] ** 0.2 * q[:, 1] ** 0.8, p[:, 2] ** 0.9 * q[:, 2] ** 0.1], 1
    )
    assert_close(scores.double(), expected, rtol=1e-5, atol=1e-7)


def test_weights_of_zero_are_the_detector_and_of_one_the_encoder() -> None:
    assert_close(
        ensemble(DETECTOR, ENCODER, IS_BASE, 0, 0).double(), DETECTOR.softmax(-1)[:, 1:], rtol=1e-5, atol=1e-7
    )
    assert_close(ensemble(DETECTOR, ENCODER, IS_BASE, 1, 1).double(), ENCODER.softmax(-1)[:, 1:], rtol=1e-5, atol=1e-7)


def test_certain_logits_stay_finite() -> None:
    certain = torch.tensor([[0.0, 500.0, -500.0, 0.0]])
    scores = ensemble(certain, -certain, IS_BASE, 0.1, 0.8)
    assert torch.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()
