"""What the detector's training refuses before it starts."""

from __future__ import annotations

import pytest

from training.detection.arguments import DetectionTrainingArguments
from training.detection.options import EncoderArguments


def test_half_precision_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="train in bfloat16"):
        DetectionTrainingArguments(output_dir=str(tmp_path), fp16=True, use_cpu=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["image_size"], "takes NAME=VALUE"),
        (["taps=5"], "is a list"),
        (["novel_weight=1.2"], "novel_weight"),
        (["base_weight=-0.1"], "base_weight"),
        (["beta=0.8"], "no detector setting beta"),
        (["image_size=large"], "wrong type"),
    ],
)
def test_settings_of_the_detector(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderArguments("checkpoint", settings).config  # noqa: B018
