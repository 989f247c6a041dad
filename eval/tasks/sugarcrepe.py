"""SugarCrepe (Hsieh et al., 2023): an image against its caption and one hard negative caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from eval.images import DatasetImage, ImageFile, ImageSource, inside
from eval.results import Result
from eval.scoring import match_score
from eval.tasks.base import Task, register, require_some
from eval.tasks.reading import at, read_json, require_rows, require_subsets, text_of

if TYPE_CHECKING:
    from eval.embed import Embedder

SUBSETS = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")
CaptionPairs = dict[str, list[tuple[ImageSource, list[str]]]]


@register
@dataclass
class SugarCrepe(Task):
    """Share of images that prefer their caption to its negative, for seven ways of making a negative; chance is 50 %.

    The blind control gives every pair of captions another pair's image.

    Attributes:
        annotations: folder of the json files. images: folder of COCO val2017. subsets: which files.
    """

    name: ClassVar[str] = "sugarcrepe"
    wants: ClassVar[str] = """It wants
  DATA/sugarcrepe/replace_obj.json, replace_att.json, … add_att.json   https://github.com/RAIVNLab/sugar-crepe (folder data)
  DATA/coco/val2017/                                                   http://images.cocodataset.org/zips/val2017.zip"""
    columns: ClassVar[str] = "It needs image, caption, negative_caption and subset (replace_obj, …)."

    annotations: Path = Path("sugarcrepe")
    images: Path = Path("coco/val2017")
    subsets: tuple[str, ...] = SUBSETS

    def load(self) -> CaptionPairs:
        require_subsets(self, self.subsets, SUBSETS)
        pairs = self._hub_pairs() if self.hub else self._file_pairs()
        require_rows(self, pairs)
        return pairs

    def _hub_pairs(self) -> CaptionPairs:
        rows = self.hub_rows(["image", "caption", "negative_caption", "subset"])
        pairs: CaptionPairs = {subset: [] for subset in self.subsets}
        for i, row in enumerate(rows.remove_columns("image")):
            if row["subset"] in pairs:
                with at(self, f"{self.hub}, row {i}"):
                    pairs[row["subset"]].append((DatasetImage(rows, i), _captions(row)))
        return pairs

    def _file_pairs(self) -> CaptionPairs:
        images = self.path(self.images, what="folder of images")
        pairs: CaptionPairs = {subset: [] for subset in self.subsets}
        for subset in self.subsets:
            file = self.path(self.annotations / f"{subset}.json", what="annotation file")
            with at(self, str(file), "is not a SugarCrepe file"):
                entries = list(read_json(self, file).items())
            for key, entry in entries:
                with at(self, f"{file}, entry {key}"):
                    image = ImageFile(inside(images, entry["filename"]))
                    pairs[subset].append((image, _captions(entry)))
        return pairs

    def images_of(self, data: CaptionPairs) -> list[ImageSource]:
        return [image for pairs in data.values() for image, _ in pairs]

    def score(self, embedder: Embedder, data: CaptionPairs) -> Result:
        sources = list(dict.fromkeys(self.images_of(data)))
        place = {source: i for i, source in enumerate(sources)}
        features, valid = embedder.images(sources)
        require_some(self, valid)
        result = Result(self.name, {}, settings={"text": "short"})
        for subset, pairs in data.items():
            kept = [(place[image], texts) for image, texts in pairs if valid[place[image]]]
            result.data[f"rows_{subset}"] = len(kept)
            if not kept:
                continue
            groups = np.array([i for i, _ in kept])
            distinct = {text: i for i, text in enumerate(dict.fromkeys(text for _, texts in kept for text in texts))}
            candidates = [[distinct[text] for text in texts] for _, texts in kept]
            score, correct, _ = match_score(features[groups], embedder.texts(list(distinct)), candidates, groups)
            result.scores[subset], result.outcomes[subset], result.groups[subset] = score, correct, groups
        result.data |= {"images": int(valid.sum()), "images_left_out": int((~valid).sum())}
        return result


def _captions(row: dict[str, Any]) -> list[str]:
    return [text_of(row[name], name) for name in ("caption", "negative_caption")]
