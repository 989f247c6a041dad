"""Mild augmentation of images and captions that keeps boxes and words true."""

import random
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

Record = dict[str, Any]

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
# Flipping an image whose texts speak of sides would make them wrong.
SIDES = re.compile(r"\b(left|right)(most|hand|wards?)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Augmentation:
    """Random horizontal flips, mild crops, and other captions.

    Args:
        flip: probability of a flip; images whose texts mention left or right are never flipped.
        min_crop: smallest share of a side that a crop keeps; 1 turns cropping off.
        min_box_kept: a region that keeps less than this share of its area in the crop is dropped.
        short_from_long: probability that a random sentence of the long caption stands in for the short ones, where
            the long one is several captions by different people.
        long_subset: probability that the long caption, being such, is some of its sentences in another order.
    """

    flip: float = 0.0
    min_crop: float = 1.0
    min_box_kept: float = 0.7
    short_from_long: float = 0.0
    long_subset: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "min_crop", "min_box_kept", "short_from_long", "long_subset"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, got {getattr(self, name)}.")
        if self.min_crop == 0:
            raise ValueError("min_crop must be above 0: it is the smallest share of a side that a crop keeps.")

    def __call__(self, record: Record, rng: random.Random) -> Record:
        image, regions = record["image"], record["regions"]
        if self.min_crop < 1:
            image, regions = self._crop(image, regions, rng)
        if self.flip and rng.random() < self.flip and not _mentions_sides(record):
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            regions = [{**region, "bbox": _flipped(region["bbox"])} for region in regions]
        record = {**record, "image": image, "regions": regions}
        if not record["caption"]:
            return record
        sentences = SENTENCE_END.split(record["caption"].strip())
        if self.short_from_long and rng.random() < self.short_from_long:
            record["short_captions"] = [rng.choice(sentences).rstrip(".!?")]
        if self.long_subset and rng.random() < self.long_subset:
            record["caption"] = " ".join(rng.sample(sentences, rng.randint(1, len(sentences))))
        return record

    def _crop(self, image: Image.Image, regions: list[Record], rng: random.Random) -> tuple[Image.Image, list[Record]]:
        columns, rows = image.size
        width, height = (max(1, round(size * rng.uniform(self.min_crop, 1))) for size in (columns, rows))
        left, top = rng.randint(0, columns - width), rng.randint(0, rows - height)
        pixels = (left, top, left + width, top + height)
        window = (left / columns, top / rows, (left + width) / columns, (top + height) / rows)
        kept = []
        for region in regions:
            box, share = _clipped(region["bbox"], window)
            if share >= self.min_box_kept:
                kept.append({**region, "bbox": box})
        return image.crop(pixels), kept


def _flipped(box: list[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [1 - x2, y1, 1 - x1, y2]


def _clipped(box: list[float], window: tuple[float, float, float, float]) -> tuple[list[float], float]:
    """The box in the units of the window, clipped to it, and the share of its area that is left."""
    left, top, right, bottom = window
    x1, x2 = (min(max(x, left), right) for x in (box[0], box[2]))
    y1, y2 = (min(max(y, top), bottom) for y in (box[1], box[3]))
    share = (x2 - x1) * (y2 - y1) / ((box[2] - box[0]) * (box[3] - box[1]))
    width, height = right - left, bottom - top
    return [(x1 - left) / width, (y1 - top) / height, (x2 - left) / width, (y2 - top) / height], share


def _mentions_sides(record: Record) -> bool:
    texts = [record["caption"], *record["short_captions"]]
    for region in record["regions"]:
        texts += [region["short_expr"], region["long_expr"]]
    return any(SIDES.search(text) for text in texts if text)
