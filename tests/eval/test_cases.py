"""Instances files that a box task must refuse: ids that are not unique, boxes of another unit, sizes of another picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.eval.task_runs import run

CASE = Path(__file__).parents[1] / "dataset_scripts/cases/15-eval-boxes-ids"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("dup.json", r"dup\.json, images\[1\] and dup\.json, images\[0\] have the same image id 0"),
        ("dup_and_stray.json", r"have the same image id 0"),
        ("fractions.json", "unit is fractions of the image"),
        ("wrong_size.json", r"images\[0\].*declares 6400×6400 pixels, the picture has 64×64"),
        ("zero_size.json", r"images\[0\]: width and height must be positive numbers of pixels; got 0 and 0"),
    ],
)
def test_boxes_that_must_be_refused(color_model, file: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(color_model, "boxes", data=CASE, annotations=file, images="images")
