"""Long-caption retrieval on Densely Captioned Images, 7,805 pairs (table 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.images import ImageFile, inside
from eval.tasks.base import register
from eval.tasks.captions import CaptionRows, CaptionTask
from eval.tasks.reading import at, read_json, text_of

CAPTIONS: dict[str, Callable[[dict], str]] = {
    "extended": lambda entry: f"{entry['short_caption']}\n{entry['extra_caption']}".strip(),
    "extra": lambda entry: entry["extra_caption"],
    "short": lambda entry: entry["short_caption"],
}


@register
@dataclass
class DCI(CaptionTask):
    """Long text (248 tokens), one caption an image.

    FG-CLIP does not publish which of DCI's fields it reads; the default is the data set's own extended caption.

    Attributes:
        caption: extended (short and extra caption), extra, or short.
    """

    name: ClassVar[str] = "dci"
    long: ClassVar[bool] = True
    wants: ClassVar[str] = """It wants
  DATA/densely_captioned_images/annotations/*.json   https://github.com/facebookresearch/DCI (its download script fetches them)
  DATA/densely_captioned_images/photos/              SA-1B images, shard sa_000138: https://ai.meta.com/datasets/segment-anything-downloads/"""

    annotations: Path = Path("densely_captioned_images/annotations")
    images: Path = Path("densely_captioned_images/photos")
    caption: str = "extended"

    def read(self) -> CaptionRows:
        if self.caption not in CAPTIONS:
            raise ValueError(f"dci.caption must be one of {', '.join(CAPTIONS)}; got {self.caption!r}.")
        folder = self.path(self.annotations, what="folder of annotations")
        images = self.path(self.images, what="folder of images")
        rows: CaptionRows = []
        for file in sorted(folder.glob("*.json")):
            entry = read_json(self, file)
            with at(self, str(file), "is not an annotation of DCI"):
                image = ImageFile(inside(images, entry["image"]), upright=False)
                rows.append((image, [text_of(CAPTIONS[self.caption](entry), f"the {self.caption} caption")]))
        return rows
