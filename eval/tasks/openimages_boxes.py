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


@register
@dataclass
class OpenImagesBoxes(BoxTask):
    """601 boxable classes; boxes around groups are left out."""

    name: ClassVar[str] = "openimages_boxes"
    wants: ClassVar[str] = """It wants
  DATA/openimages/validation-annotations-bbox.csv     https://storage.googleapis.com/openimages/v5/validation-annotations-bbox.csv
  DATA/openimages/class-descriptions-boxable.csv      https://storage.googleapis.com/openimages/v5/class-descriptions-boxable.csv
  DATA/openimages/validation/ID.jpg                   https://storage.googleapis.com/openimages/web/download_v7.html"""
    columns: ClassVar[str] = HUB_COLUMNS

    annotations: Path = Path("openimages/validation-annotations-bbox.csv")
    classes: Path = Path("openimages/class-descriptions-boxable.csv")
    images: Path = Path("openimages/validation")

    def load(self) -> BoxData:
        if self.hub:
            return self.hub_boxes()
        images = self.path(self.images, what="folder of images")
        with self.path(self.classes, what="class list").open(encoding="utf-8", newline="") as lines:
            classes = [row for row in csv.reader(lines) if row]
        index = {row[0]: i for i, row in enumerate(classes)}
        boxes: dict[str, list[list[float]]] = {}
        labels: dict[str, list[int]] = {}
        skipped = {"boxes_skipped_group": 0, "boxes_skipped_empty": 0}
        file = self.path(self.annotations, what="annotation file")
        with file.open(encoding="utf-8", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines), 2):
                try:
                    x1, x2, y1, y2 = (float(row[name]) for name in ("XMin", "XMax", "YMin", "YMax"))
                    label, group = index[row["LabelName"]], row["IsGroupOf"] == "1"
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(
                        f"{file}, line {number}: malformed, or a class that {self.classes.name} does not list ({error})."
                    ) from None
                if group:
                    skipped["boxes_skipped_group"] += 1
                elif not (x2 > x1 and y2 > y1):
                    skipped["boxes_skipped_empty"] += 1
                else:
                    boxes.setdefault(row["ImageID"], []).append([x1, y1, x2, y2])
                    labels.setdefault(row["ImageID"], []).append(label)
        return BoxData(
            [ImageFile(inside(images, f"{key}.jpg")) for key in boxes],
            [Boxes(np.array(part, np.float32)) for part in boxes.values()],
            [np.array(part, np.int64) for part in labels.values()],
            [[row[1]] for row in classes],
            skipped,
        )
