"""Retrieval on COCO's 5,000 images with 5 captions each (table 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.embed import Embedder
from eval.images import ImageFile, inside
from eval.names import name_of
from eval.results import Result
from eval.tasks.base import register
from eval.tasks.captions import CaptionRows, CaptionTask
from eval.tasks.reading import at, read_json, text_of


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
        captions: dict[int, list[str]] = {}
        with at(self, str(file), "is not a COCO captions file"):
            annotations, entries = list(content["annotations"]), list(content["images"])
        for number, annotation in enumerate(annotations):
            with at(self, f"{file}, annotations[{number}]", "is not of a COCO captions file"):
                captions.setdefault(annotation["image_id"], []).append(text_of(annotation["caption"], "caption"))
        rows: CaptionRows = []
        for number, entry in enumerate(entries):
            with at(self, f"{file}, images[{number}]", "is not of a COCO captions file"):
                image = ImageFile(inside(images, entry["file_name"]), upright=False)
                rows.append((image, captions.get(entry["id"], [])[:5]))
        return rows
