"""Boxes lie where they belong on the picture that is shown, and those below the score are left out."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from eval.detection.drawing import COLORS, DRAWN_SIDE, draw


@pytest.mark.parametrize("size", [(64, 32), (800, 400)])
def test_boxes_at_or_above_the_score_are_drawn_where_they_are(size: tuple[int, int]) -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.75, 1.0], [0.0, 0.0, 0.25, 0.25]]) * torch.tensor([*size, *size])
    found = {"boxes": boxes, "labels": torch.tensor([1, 0]), "scores": torch.tensor([0.5, 0.4])}
    picture = draw(Image.new("RGB", size, "white"), found, ["ring", "star"], threshold=0.5)

    assert picture.size == ((DRAWN_SIDE, DRAWN_SIDE // 2) if size[0] < DRAWN_SIDE else size)
    pixels = np.array(picture)
    ring, star = (ImageColor.getrgb(color) for color in COLORS[:2])
    rows, columns = np.nonzero((pixels == star).all(-1))
    assert columns.min() == pytest.approx(0.5 * picture.width, abs=3)
    assert columns.max() == pytest.approx(0.75 * picture.width, abs=3)
    assert rows.max() == picture.height - 1
    assert not (pixels == ring).all(-1).any()
