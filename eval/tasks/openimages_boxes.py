"""Box classification on Open Images validation (table 2)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from eval.images import Boxes, ImageFile, inside
from eval.tasks.base import register
from eval.tasks.boxes import HUB_COLUMNS, BoxData, BoxTask
from eval.tasks.reading import at, text_of


@register
@dataclass
class OpenImagesBoxes(BoxTask):
    """601 boxable classes; boxes around groups are left out. Small, medium and large go by the fraction of the image."""

    name: ClassVar[str] = "openimages_boxes"
    wants: ClassVar[str] = """It wants
  DATA/openimages/validation-annotations-bbox.csv     https://storage.googleapis.com/openimages/v5/validation-annotations-bbox.csv
  DATA/openimages/class-descriptions-boxable.csv      https://storage.googleapis.com/openimages/v5/class-descriptions-boxable.csv
  DATA/openimages/validation/ID.jpg                   https://storage.googleapis.com/openimages/web/download_v7.html"""
    columns: ClassVar[str] = HUB_COLUMNS

    annotations: Path = Path("openimages/validation-annotations-bbox.csv")
    classes: Path = Path("openimages/class-descriptions-boxable.csv")
    images: Path = Path("openimages/validation")

    def read(self) -> BoxData:
        images = self.path(self.images, what="folder of images")
        names, index = self._classes()
        paths: dict[str, Path] = {}
        boxes: dict[str, list[list[float]]] = {}
        labels: dict[str, list[int]] = {}
        skipped = {"boxes_skipped_group": 0, "boxes_skipped_empty": 0}
        file = self.path(self.annotations, what="annotation file")
        wrong = f"malformed, or a class that {self.classes.name} does not list"
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines), 2):
                with at(self, f"{file}, line {number}", wrong):
                    x1, x2, y1, y2 = (float(row[name]) for name in ("XMin", "XMax", "YMin", "YMax"))
                    label, group, key = index[row["LabelName"]], row["IsGroupOf"] == "1", row["ImageID"]
                    key.encode("utf-8")  # bytes that are no UTF-8 fail here, on their line
                    if key not in paths:
                        paths[key] = inside(images, f"{key}.jpg")
                if group:
                    skipped["boxes_skipped_group"] += 1
                elif not (x2 > x1 and y2 > y1):
                    skipped["boxes_skipped_empty"] += 1
                else:
                    boxes.setdefault(key, []).append([x1, y1, x2, y2])
                    labels.setdefault(key, []).append(label)
        return BoxData(
            [ImageFile(paths[key], upright=False) for key in boxes],
            [Boxes(np.array(part, np.float32)) for part in boxes.values()],
            [np.array(part, np.int64) for part in labels.values()],
            names,
            skipped,
        )

    def _classes(self) -> tuple[list[list[str]], dict[str, int]]:
        """The names of the classes, and the index of each class id."""
        file = self.path(self.classes, what="class list")
        names: list[list[str]] = []
        index: dict[str, int] = {}
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            for number, row in enumerate(csv.reader(lines), 1):
                if row:
                    with at(self, f"{file}, line {number}", "needs a class id and a name"):
                        index[row[0]] = len(names)
                        names.append([text_of(row[1], "name")])
                        row[1].encode("utf-8")
        return names, index
