"""Box classification on COCO val2017 (table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.tasks.base import register
from eval.tasks.boxes import HUB_COLUMNS, BoxData, BoxTask, read_instances


@register
@dataclass
class CocoBoxes(BoxTask):
    """80 classes; crowd annotations are left out."""

    name: ClassVar[str] = "coco_boxes"
    wants: ClassVar[str] = """It wants
  DATA/coco/annotations/instances_val2017.json   http://images.cocodataset.org/annotations/annotations_trainval2017.zip
  DATA/coco/val2017/                             http://images.cocodataset.org/zips/val2017.zip"""
    columns: ClassVar[str] = HUB_COLUMNS

    annotations: Path = Path("coco/annotations/instances_val2017.json")
    images: Path = Path("coco/val2017")

    def read(self) -> BoxData:
        file = self.path(self.annotations, what="annotation file")
        return read_instances(self, file, self.path(self.images, what="folder of images"))
