"""Long-caption retrieval on the 1,000 images of ShareGPT4V that Long-CLIP set apart (table 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dataset_scripts.formats.captions import own_name, read_sharegpt4v
from eval.tasks.base import register
from eval.tasks.captions import CaptionRows, CaptionTask
from eval.tasks.reading import shared_reader


@register
@dataclass
class ShareGPT4V(CaptionTask):
    """Long text (248 tokens): the first 1,000 conversations of the captioner file, the answer being the caption.

    Attributes:
        count: how many conversations.
    """

    name: ClassVar[str] = "sharegpt4v"
    long: ClassVar[bool] = True
    wants: ClassVar[str] = """It wants
  DATA/sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json   https://huggingface.co/datasets/Lin-Chen/ShareGPT4V
  DATA/sam/                               the SA-1B images of its first 1,000 entries (sa_….jpg): https://ai.meta.com/datasets/segment-anything-downloads/"""

    annotations: Path = Path("sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json")
    images: Path = Path("sam")
    count: int = 1000

    def read(self) -> CaptionRows:
        file = self.path(self.annotations, what="annotation file")
        images = self.path(self.images, what="folder of images")
        with shared_reader(self) as report:
            entries = list(read_sharegpt4v(file, report, self.count))
        return [self.caption_row(entry, images, own_name(entry.path), entry.captions) for entry in entries]
