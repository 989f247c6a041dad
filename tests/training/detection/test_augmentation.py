"""Jitter, window and flip keep boxes on their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training.detection.augmentation import DetectionAugmentation


def picture(box: tuple[int, int, int, int], size: tuple[int, int] = (120, 80)) -> Image.Image:
    image = Image.new("RGB", size, "black")
    image.paste("white", box)
    return image


@pytest.mark.parametrize("seed", range(30))
def test_a_box_stays_around_its_pixels(seed: int) -> None:
    box = (30, 20, 90, 60)
    augmentation = DetectionAugmentation(64, min_scale=0.5, max_scale=2.0, flip=0.5)
    one = augmentation(picture(box), np.array([box], np.float32), np.array([4]), np.random.default_rng(seed))
    assert max(one["image"].shape[1:]) <= 64
    white = one["image"][0] > 0.5
    if not len(one["boxes"]):
        assert not white.any()
        return
    assert one["labels"].tolist() == [4]
    rows, columns = white.nonzero(as_tuple=True)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(one["boxes"][0], found, atol=1.01)


def test_the_scale_is_of_the_longer_side() -> None:
    augmentation = DetectionAugmentation(60, min_scale=1.0, max_scale=1.0, flip=0.0)
    one = augmentation(picture((0, 0, 120, 80)), np.array([[0, 0, 120, 80]]), np.array([0]), np.random.default_rng(0))
    assert one["image"].shape == (3, 40, 60)
    np.testing.assert_allclose(one["boxes"], [[0, 0, 60, 40]])


def test_randomness_is_the_generators() -> None:
    augmentation = DetectionAugmentation(64)
    box = np.array([[30, 20, 90, 60]], np.float32)
    first, again, other = (
        augmentation(picture((30, 20, 90, 60)), box, np.array([0]), np.random.default_rng(seed))["image"]
        for seed in (5, 5, 6)
    )
    assert first.shape == again.shape
    assert (first == again).all()
    assert first.shape != other.shape or (first != other).any()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="scales"):
        DetectionAugmentation(64, min_scale=2, max_scale=1)
    with pytest.raises(ValueError, match="flip"):
        DetectionAugmentation(64, flip=1.5)
