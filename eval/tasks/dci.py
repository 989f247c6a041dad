"""Long-caption retrieval on Densely Captioned Images, 7,805 pairs (table 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dataset_scripts.formats.captions import Captioned, read_dci
from eval.tasks.base import register
from eval.tasks.captions import CaptionRows, CaptionTask
from eval.tasks.reading import at, shared_reader, text_of

CAPTIONS: dict[str, Callable[[str, str], str]] = {
    "extended": lambda short, extra: f"{short}\n{extra}".strip(),
    "extra": lambda short, extra: extra,
    "short": lambda short, extra: short,
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
        with shared_reader(self) as report:
            entries = list(read_dci(folder, report))
        return [self.caption_row(entry, images, entry.path, [self._text(entry)]) for entry in entries]

    def _text(self, entry: Captioned) -> str:
        with at(self, entry.where):
            return text_of(CAPTIONS[self.caption](*entry.captions), f"the {self.caption} caption")
