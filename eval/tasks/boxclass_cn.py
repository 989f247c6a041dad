"""Box classification on BoxClass-CN, 66,258 regions of 566 Chinese names (FG-CLIP 2, table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.tasks.base import register
from eval.tasks.boxes import HUB_COLUMNS, BoxData, BoxTask, read_instances


@register
@dataclass
class BoxClassCN(BoxTask):
    """566 classes by their bare names, read by the head of region texts where the model has one."""

    name: ClassVar[str] = "boxclass_cn"
    as_written: ClassVar[bool] = True
    wants: ClassVar[str] = """It wants
  DATA/BoxClass-CN/valid_category_data_total_zh.json   https://huggingface.co/datasets/qihoo360/BoxClass-CN (there or in jsonfile/)
  DATA/BoxClass-CN/images/                             its images.zip, unpacked"""
    columns: ClassVar[str] = HUB_COLUMNS

    annotations: Path = Path("BoxClass-CN/valid_category_data_total_zh.json")
    images: Path = Path("BoxClass-CN/images")
    templates: str = "bare"

    def read(self) -> BoxData:
        nested = self.annotations.parent / "jsonfile" / self.annotations.name
        file = self.path(self.annotations, nested, what="annotation file")
        images = self.path(self.images, what="folder of images")
        return read_instances(self, file, images, sizes_declared=False)
