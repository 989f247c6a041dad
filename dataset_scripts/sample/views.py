"""What a LLaVA picture of the generated sample shows: a whole scene, or of every third scene one half."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_scripts.formats.files import read_json
from dataset_scripts.paths import image_path
from dataset_scripts.sample.captions import parse
from dataset_scripts.sample.vocabulary import Appearance, Split

_HALVES = ("top", "bottom", "left", "right")


@dataclass(frozen=True)
class Thing:
    """One object: its looks, x1, y1, x2, y2 in pixels of the picture, and the words for its place."""

    looks: Appearance
    box: tuple[int, int, int, int]
    place: str


@dataclass(frozen=True)
class View:
    """A picture.

    Attributes:
        index: of the scene in its split. path: of the scene's image, below the split's images.
        window: left, top, right, bottom of the part that is shown, in the scene's pixels; None: all of it.
        size: width and height of the picture in pixels.
    """

    index: int
    path: str
    window: tuple[int, int, int, int] | None
    size: tuple[int, int]
    things: tuple[Thing, ...]


def _half(side: int, name: str) -> tuple[int, int, int, int]:
    middle = side // 2
    return {
        "top": (0, 0, side, middle),
        "bottom": (0, middle, side, side),
        "left": (0, 0, middle, side),
        "right": (middle, 0, side, side),
    }[name]


def _view(index: int, record: dict[str, Any], side: int, rng: np.random.Generator) -> View:
    things = []
    for region in record["bbox_info"]:
        box = tuple(round(edge * side) for edge in region["bbox"][:4])
        rows, columns = ("top", "bottom"), ("left", "right")
        place = f"{rows[box[1] >= side // 2]} {columns[box[0] >= side // 2]}"
        things.append(Thing(parse(region["short_expr"]), box, place))
    path = image_path(record["f_path"])
    if index % 3 != 2:
        return View(index, path, None, (side, side), tuple(things))
    # A half with as many objects as any has: no object lies across the middle of a scene.
    halves = {half: [thing for thing in things if half in thing.place.split()] for half in _HALVES}
    most = max(map(len, halves.values()))
    half = str(rng.choice([half for half in _HALVES if len(halves[half]) == most]))
    left, top, right, bottom = window = _half(side, half)
    shown = tuple(
        Thing(
            thing.looks,
            (thing.box[0] - left, thing.box[1] - top, thing.box[2] - left, thing.box[3] - top),
            thing.place.replace(half, "").strip(),
        )
        for thing in halves[half]
    )
    return View(index, path, window, (right - left, bottom - top), shown)


def views_of(sample: Path, split: Split, side: int, seed: int) -> Iterator[tuple[View, np.random.Generator]]:
    """Each picture of a split, with the generator that everything asked about it is drawn from."""
    files = sorted((sample / split / "jsonfiles").glob("*.json"))
    for index, record in enumerate(record for path in files for record in read_json(path)):
        rng = np.random.default_rng([seed, ("train", "test").index(split), index, 1])  # the scene's own has no 1
        yield _view(index, record, side, rng), rng
