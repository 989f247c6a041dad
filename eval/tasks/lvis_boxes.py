"""Box classification on LVIS v1 val (table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.tasks.base import register
from eval.tasks.boxes import HUB_COLUMNS, BoxData, BoxTask, read_instances


@register
@dataclass
class LvisBoxes(BoxTask):
    """1,203 classes; their names, without synonyms. Val images lie in COCO's train2017 and val2017, as coco_url says."""

    name: ClassVar[str] = "lvis_boxes"
    wants: ClassVar[str] = """It wants
  DATA/lvis/lvis_v1_val.json                 https://dl.fbaipublicfiles.com/LVIS/lvis_v1_val.json.zip
  DATA/coco/train2017/, DATA/coco/val2017/   http://images.cocodataset.org/zips/train2017.zip and val2017.zip"""
    columns: ClassVar[str] = HUB_COLUMNS

    annotations: Path = Path("lvis/lvis_v1_val.json")
    images: Path = Path("coco")

    def read(self) -> BoxData:
        file = self.path(self.annotations, what="annotation file")
        return read_instances(self, file, self.path(self.images, what="folder of images"))
