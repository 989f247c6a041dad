"""Zero-shot classification on ImageNet-v2, matched frequency (table 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.tasks.base import register
from eval.tasks.imagenet import ImageNetTask


@register
@dataclass
class ImageNetV2(ImageNetTask):
    """10,000 images in folders that are named by the class index, so that "10" sorts before "2"."""

    name: ClassVar[str] = "imagenet_v2"
    wants: ClassVar[str] = """It wants
  DATA/imagenetv2-matched-frequency-format-val/0/*.jpeg … 999/     https://huggingface.co/datasets/vaishaal/ImageNetV2"""

    images: Path = Path("imagenetv2-matched-frequency-format-val")

    def label_of_folder(self, name: str, place: int) -> int:
        if not name.isdigit():
            raise ValueError(f"task imagenet_v2: folder {name!r} is not a class index from 0 to 999.\n{self.wants}")
        return int(name)
