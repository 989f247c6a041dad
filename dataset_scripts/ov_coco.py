"""Open-vocabulary splits of detection data: which classes a detector is trained on, and which it has never seen boxes of.

    python -m dataset_scripts.ov_coco annotations/instances_val2017.json

prints the counts of the OV-COCO split and compares them with the published ones. OV-COCO (Bansal et al., 2018; Zareian et
al., 2021) trains on 48 base classes of COCO and evaluates on these and 17 novel ones; the 15 others are dropped, and so are
images without a box of the chosen classes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from dataset_scripts.formats.coco import CocoImage, read_coco
from dataset_scripts.formats.files import read_object
from dataset_scripts.records import clean_box
from dataset_scripts.report import Report
from fgclip.command_line import Parser, run_command

# Images and boxes of base and novel classes in val2017, from the literature and counted from COCO's own file.
VAL2017 = {"images": 4836, "base": 28_538, "novel": 4614}


@dataclass(frozen=True)
class ClassSplit:
    """Names of the classes that training has boxes of, and of those it has none of."""

    base: tuple[str, ...]
    novel: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [*self.base, *self.novel]
        if not self.base:
            raise ValueError("a split needs at least one base class; a detector cannot be trained without boxes.")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the split names {', '.join(twice[:5])} more than once; each class is base or novel.")

    @classmethod
    def ov_coco(cls) -> ClassSplit:
        """48 base and 17 novel classes of COCO."""
        lists = json.loads(files("dataset_scripts").joinpath("assets", "ov_coco_classes.json").read_text("utf-8"))
        return cls(tuple(lists["base"]), tuple(lists["novel"]))

    @classmethod
    def of_lvis(cls, instances: Path) -> ClassSplit:
        """Frequent and common classes of an LVIS file as base, rare ones as novel (Gu et al., 2022)."""
        report = Report("raise")
        names = read_coco(None, instances, report).categories
        frequency: dict[Any, Any] = {
            entry["id"]: entry.get("frequency") for entry in read_object(instances, "categories")["categories"]
        }
        if unknown := [names[key] for key, value in frequency.items() if value not in ("r", "c", "f")]:
            raise ValueError(
                f"{instances} does not say of {unknown[0]!r} and {len(unknown) - 1} others whether they are rare (r), common (c) or "
                "frequent (f); LVIS v1's own files do."
            )
        rare = {key for key, value in frequency.items() if value == "r"}
        return cls(
            tuple(name for key, name in names.items() if key not in rare),
            tuple(name for key, name in names.items() if key in rare),
        )

    @classmethod
    def read(cls, path: Path) -> ClassSplit:
        """A JSON file ``{"base": [names], "novel": [names]}``."""
        content = read_object(path, "base", "novel")
        for key in ("base", "novel"):
            if not all(isinstance(name, str) and name.strip() for name in content[key]):
                raise ValueError(f"{path}: {key} must be a list of class names.")
        return cls(tuple(content["base"]), tuple(content["novel"]))


@dataclass
class DetectionImage:
    """An image and its boxes.

    Attributes:
        id: in the file of annotations. path: below the folder of images. size: (width, height) in pixels.
        boxes: (K, 4) float32 xyxy in pixels, inside the image. labels: (K,) indices into the names that were asked for.
        crowd: (K,) booleans: the box is around a group. areas: (K,) of the objects, in pixels.
    """

    id: Any
    path: str
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


@dataclass
class DetectionData:
    """Images in the file's order; category ids of the names that were asked for; and what was left out, by reason."""

    images: list[DetectionImage]
    category_ids: list[Any]
    left_out: dict[str, int] = field(default_factory=dict)

    def count(self, labels: range) -> int:
        """Boxes of some classes."""
        return sum(int(np.isin(image.labels, labels).sum()) for image in self.images)


def read_detection(
    instances: Path, names: tuple[str, ...], on_bad: str = "raise", keep_empty: bool = False
) -> DetectionData:
    """The boxes of some classes in a file in COCO's format.

    Args:
        instances: the file.
        names: classes, as the file names them; boxes of all others are dropped and counted.
        on_bad: "raise", or "skip" to count and drop entries that are malformed.
        keep_empty: keep images that are left without a box, as an evaluation of one's own data wants.

    Raises:
        ValueError: names the file has no category of, a malformed entry, or nothing left.
    """
    report = Report(on_bad)
    coco = read_coco(None, instances, report)
    by_name = {name: key for key, name in coco.categories.items()}
    if missing := [name for name in names if name not in by_name]:
        raise ValueError(
            f"{instances} has no category {', '.join(map(repr, missing[:5]))} ({len(missing)} of {len(names)} names are missing); "
            f"it names {', '.join(list(by_name)[:5])} …"
        )
    label_of = {by_name[name]: label for label, name in enumerate(names)}
    data = DetectionData([], [by_name[name] for name in names])
    dropped = 0
    for image in coco.images:
        kept = [thing for thing in image.objects if thing.category in label_of]
        dropped += len(image.objects) - len(kept)
        with report.entry(image.where):
            found = _detection_image(image, kept, label_of, report)
            if keep_empty or len(found.labels):
                data.images.append(found)
    data.left_out = {"boxes of other classes": dropped, **report.problems}
    if not data.images:
        raise ValueError(
            f"{instances} holds no box of the {len(names)} classes, such as {names[0]!r}; nothing is left."
        )
    return data


def _detection_image(image: CocoImage, kept: list[Any], label_of: dict[Any, int], report: Report) -> DetectionImage:
    if image.size is None:
        raise ValueError("width and height of the image are missing; boxes cannot be checked without them")
    width, height = image.size
    boxes, labels, crowd, areas = [], [], [], []
    for thing in kept:
        box = clean_box(thing.bbox, thing.where, report, "xywh", image.size)
        if box is None:
            continue
        x1, y1, x2, y2 = (edge * side for edge, side in zip(box, (width, height, width, height), strict=True))
        with report.entry(thing.where):
            areas.append(float(thing.area or (x2 - x1) * (y2 - y1)))
            boxes.append((x1, y1, x2, y2))
            labels.append(label_of[thing.category])
            crowd.append(thing.crowd)
    return DetectionImage(
        image.id,
        image.path,
        (int(width), int(height)),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(crowd, bool),
        np.array(areas, np.float64),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instances", type=Path, help="instances_val2017.json or instances_train2017.json")
    options = parser.parse_args(arguments)
    split = ClassSplit.ov_coco()
    data = read_detection(options.instances, (*split.base, *split.novel), "skip")
    base = range(len(split.base))
    found = {
        "images": len(data.images),
        "base": data.count(base),
        "novel": data.count(range(len(split.base), len(split.base) + len(split.novel))),
    }
    print("\n".join(f"{name}: {count:,}" for name, count in {**found, **data.left_out}.items()))
    if "val2017" in options.instances.name and found != VAL2017:
        raise ValueError(f"the published counts of val2017 are {VAL2017}; is {options.instances} the whole file?")


if __name__ == "__main__":
    run_command(main)
