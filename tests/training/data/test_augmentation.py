import itertools
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from tests.training.records import make_record
from training.data.augmentation import Augmentation


def marked_record(box=(0.25, 0.5, 0.5, 0.75)) -> dict:
    """A black image whose region is white, so that pixels tell where a box belongs."""
    pixels = np.zeros((80, 120, 3), dtype=np.uint8)
    x1, y1, x2, y2 = box
    pixels[round(80 * y1) : round(80 * y2), round(120 * x1) : round(120 * x2)] = 255
    record = make_record(0, regions=1)
    record["regions"][0]["bbox"] = list(box)
    return {**record, "image": Image.fromarray(pixels)}


def white_box(image: Image.Image) -> list[float]:
    rows, columns = np.nonzero(np.asarray(image)[..., 0])
    width, height = image.size
    return [columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height]


def test_off_by_default():
    record = marked_record()
    assert Augmentation()(record, random.Random(0))["regions"] == record["regions"]


@pytest.mark.parametrize("seed", range(20))
def test_boxes_stay_on_their_pixels(seed):
    changed = Augmentation(flip=0.5, min_crop=0.6, min_box_kept=0.0)(marked_record(), random.Random(seed))
    for region in changed["regions"]:
        assert_close(
            torch.tensor(region["bbox"]),
            torch.tensor(white_box(changed["image"]), dtype=torch.float32),
            atol=1e-6,
            rtol=0,
        )


def test_texts_with_sides_forbid_a_flip():
    record = marked_record()
    record["regions"][0]["long_expr"] = "a box on the left"
    assert Augmentation(flip=1.0)(record, random.Random(0))["regions"] == record["regions"]
    record["regions"][0]["long_expr"] = "a box that leftovers fill"
    assert Augmentation(flip=1.0)(record, random.Random(0))["regions"] != record["regions"]


def test_a_region_cut_too_much_is_dropped():
    record = marked_record(box=(0.0, 0.0, 0.1, 0.1))
    kept = [len(Augmentation(min_crop=0.5)(record, random.Random(seed))["regions"]) for seed in range(50)]
    assert set(kept) == {0, 1}


def test_long_captions_are_sentences_of_the_whole_one():
    record = {**marked_record(), "caption": "A dog runs. Two cats sit on a wall! Is there a bird?"}
    sentences = ["A dog runs.", "Two cats sit on a wall!", "Is there a bird?"]
    captions = {Augmentation(long_subset=1.0)(record, random.Random(seed))["caption"] for seed in range(200)}
    expected = {" ".join(order) for count in (1, 2, 3) for order in itertools.permutations(sentences, count)}
    assert captions == expected
    assert Augmentation(long_subset=1.0)({**record, "caption": None}, random.Random(0))["caption"] is None


@pytest.mark.parametrize("settings", [{"flip": 1.5}, {"min_crop": 0}, {"min_box_kept": -1}])
def test_shares_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Augmentation(**settings)


def test_short_captions_from_the_long_one():
    record = {**marked_record(), "caption": "A dog runs. A brown dog in a field! Is it fast?"}
    shorts = {
        Augmentation(short_from_long=1.0)(record, random.Random(seed))["short_captions"][0] for seed in range(30)
    }
    assert shorts == {"A dog runs", "A brown dog in a field", "Is it fast"}
    assert Augmentation(short_from_long=1.0)({**record, "caption": None}, random.Random(0))["short_captions"]
