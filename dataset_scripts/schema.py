"""The one record of this project (DESIGN section 5): what a reader yields, a shard stores and the collator takes.

Everything but ``image`` and one caption is optional: an absent long caption or expression is None, absent short
captions, regions or negatives are an empty list.
"""

from __future__ import annotations

from typing import TypedDict

from datasets import Features, Image, List, Value
from PIL.Image import Image as PILImage


class Region(TypedDict):
    """One box and what is said about it."""

    bbox: list[float]  # x1, y1, x2, y2, each in [0, 1], fractions of the image's width and height
    score: float  # the detector's confidence; 1.0 where a person drew the box
    short_expr: str | None
    long_expr: str | None
    negatives: list[str]  # wrong versions of short_expr, up to 10 in FineHARD


class Record(TypedDict):
    """One image with its captions and regions."""

    image: PILImage  # RGB
    caption: str | None  # long: several sentences
    short_captions: list[str]  # each one sentence about the whole picture: one in FineHARD, five in COCO
    regions: list[Region]
    source_id: str  # unique in its source; FineHARD: f_path without its published prefix


FEATURES = Features(
    {
        "image": Image(mode="RGB"),
        "caption": Value("string"),
        "short_captions": List(Value("string")),
        "regions": List(
            {
                "bbox": List(Value("float32"), length=4),
                "score": Value("float32"),
                "short_expr": Value("string"),
                "long_expr": Value("string"),
                "negatives": List(Value("string")),
            }
        ),
        "source_id": Value("string"),
    }
)
