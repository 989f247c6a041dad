"""Retrieval on Flickr30k's 1,000 test images with 5 captions each (table 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.tasks.base import register
from eval.tasks.captions import CaptionRows, CaptionTask


@register
@dataclass
class Flickr30k(CaptionTask):
    """Short captions; image → text counts any of the five."""

    name: ClassVar[str] = "flickr30k"
    wants: ClassVar[str] = """It wants
  DATA/flickr30k/dataset_flickr30k.json   the Karpathy split: https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip
  DATA/flickr30k/flickr30k-images/        the images, on request: https://shannon.cs.illinois.edu/DenotationGraph/"""

    annotations: Path = Path("flickr30k/dataset_flickr30k.json")
    images: Path = Path("flickr30k/flickr30k-images")

    def read(self) -> CaptionRows:
        file = self.path(self.annotations, what="annotation file")
        return self.read_karpathy(file, self.path(self.images, what="folder of images"))
