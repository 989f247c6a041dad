"""Box classification on Open Images validation (table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from dataset_scripts.formats.open_images import read_boxes, read_classes
from eval.images import Boxes, ImageFile, inside
from eval.tasks.base import register
from eval.tasks.boxes import HUB_COLUMNS, BoxData, BoxTask
from eval.tasks.reading import at, shared_reader


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
        with shared_reader(self) as report:
            classes = read_classes(self.path(self.classes, what="class list"), report)
            lines = list(read_boxes(self.path(self.annotations, what="annotation file"), classes, report))
        index = {label: i for i, label in enumerate(classes)}
        skipped = {"boxes_skipped_group": 0, "boxes_skipped_empty": 0}
        paths: dict[str, Path] = {}
        boxes: dict[str, list[tuple[float, ...]]] = {}
        labels: dict[str, list[int]] = {}
        for line in lines:
            if line.image not in paths:
                with at(self, line.where):
                    paths[line.image] = inside(images, f"{line.image}.jpg")
            x1, y1, x2, y2 = line.bbox
            if line.group:
                skipped["boxes_skipped_group"] += 1
            elif not (x2 > x1 and y2 > y1):
                skipped["boxes_skipped_empty"] += 1
            else:
                boxes.setdefault(line.image, []).append(line.bbox)
                labels.setdefault(line.image, []).append(index[line.label])
        return BoxData(
            [ImageFile(paths[key]) for key in boxes],
            [Boxes(np.array(part, np.float32)) for part in boxes.values()],
            [np.array(part, np.int64) for part in labels.values()],
            [[name] for name in classes.values()],
            skipped,
        )
