"""Retrieval on COCO's 5,000 images with 5 captions each (table 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dataset_scripts.formats.coco import CocoImage, read_coco
from eval.names import name_of
from eval.results import Result
from eval.tasks.base import register
from eval.tasks.captions import CaptionRows, CaptionTask
from eval.tasks.reading import at, read_json, shared_reader, text_of

if TYPE_CHECKING:
    from eval.embed import Embedder


@register
@dataclass
class CocoRetrieval(CaptionTask):
    """Short captions; image → text counts any of the five. The file decides which 5,000 images: see `wants`."""

    name: ClassVar[str] = "coco_retrieval"
    wants: ClassVar[str] = """It wants one of
  DATA/coco/dataset_coco.json and DATA/coco/val2014/     the Karpathy test split: https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip
  DATA/coco/annotations/captions_val2017.json and DATA/coco/val2017/   the 5,000 images of val2017
Options annotations=FILE and images=FOLDER (the folder that holds val2014/, or the images of val2017) choose; the file is named in the result."""

    def __post_init__(self) -> None:
        self.file = ""

    def score(self, embedder: Embedder, data: CaptionRows) -> Result:
        result = super().score(embedder, data)
        result.settings["annotation_file"] = self.file or name_of(self.hub)  # the two splits give different numbers
        return result

    def read(self) -> CaptionRows:
        names = (
            [self.annotations]
            if self.annotations != Path()
            else [Path("coco/dataset_coco.json"), Path("coco/annotations/captions_val2017.json")]
        )
        file = self.path(*names, what="annotation file")
        self.file = file.name
        content = read_json(self, file)
        if not isinstance(content, dict) or "annotations" not in content:
            return self.read_karpathy(
                file, self.path(self.images if self.images != Path() else "coco", what="folder of images")
            )
        images = self.path(self.images if self.images != Path() else "coco/val2017", what="folder of images")
        with shared_reader(self) as report:
            entries = read_coco(file, None, report).images
        return [self.caption_row(entry, images, entry.path, self._captions(entry)) for entry in entries]

    def _captions(self, entry: CocoImage) -> list[str]:
        texts = []
        for where, text in entry.captions[:5]:
            with at(self, where):
                texts.append(text_of(text, "caption"))
        return texts
