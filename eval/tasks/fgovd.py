"""FG-OVD (Bianchi et al., 2024) as FG-CLIP evaluates it: a region against one true and ten false captions (table 1)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eval.attributes import replaced_attribute
from eval.embed import Embedder
from eval.images import DatasetImage, ImageFile, ImageSource, inside
from eval.results import Result
from eval.tasks.base import Task, register
from eval.tasks.matching import MatchRow, add_breakdown, embed_matches, score_matches

FILES = {
    "hard": "h_attributes_llava.jsonl",
    "medium": "m_attributes_llava.jsonl",
    "easy": "e_attributes_llava.jsonl",
    "trivial": "shuffle_negatives_llava.jsonl",
}


@register
@dataclass
class FGOVD(Task):
    """Top-1 among one positive and its negatives; hard, medium, easy: 1, 2, 3 attributes replaced; trivial: unrelated.

    Region feature of the box by RoIAlign, short text (section 4.2). A tie counts as wrong; the published script counts
    it as right, which is `value + ties / count`.

    Attributes:
        annotations: folder of the jsonl files, relative to `data`.
        images: folder below which `img_path` is found, relative to `data`.
        subsets: which of hard, medium, easy, trivial.
    """

    name: ClassVar[str] = "fgovd"
    needs_regions: ClassVar[bool] = True
    wants: ClassVar[str] = """It wants
  DATA/fgovd/h_attributes_llava.jsonl, m_…, e_attributes_llava.jsonl, shuffle_negatives_llava.jsonl
                          hard, medium, easy, trivial: https://huggingface.co/datasets/qihoo360/FG-OVD (option annotations=FOLDER)
  DATA/coco/train2017/, DATA/coco/val2017/
                          COCO 2017 images: http://images.cocodataset.org/zips/val2017.zip and train2017.zip (option images=FOLDER)"""
    columns: ClassVar[str] = (
        "It needs image, bbox (x, y, width, height in pixels), pos_expression, neg_expression, subset (hard, …) and, so that each image is encoded once, image_id."
    )

    annotations: Path = Path()
    images: Path = Path()
    subsets: tuple[str, ...] = ("hard", "medium", "easy", "trivial")

    def load(self) -> dict[str, list[MatchRow]]:
        unknown = set(self.subsets) - set(FILES)
        if unknown:
            raise ValueError(f"task fgovd has the subsets {', '.join(FILES)}; got {', '.join(sorted(unknown))}.")
        if self.hub:
            return self._hub_rows()
        folders = [self.annotations] if self.annotations != Path() else [Path("fgovd"), Path()]
        folder = self.path(*[f / FILES[self.subsets[0]] for f in folders], what="annotation file").parent
        image_folders = [self.images] if self.images != Path() else [Path("coco"), Path("test/images"), Path("images")]
        images = self.path(*image_folders, what="folder of images")
        return {subset: list(_read(folder / FILES[subset], images, self)) for subset in self.subsets}

    def images_of(self, data: dict[str, list[MatchRow]]) -> list[ImageSource]:
        return [row.image for rows in data.values() for row in rows]

    def score(self, embedder: Embedder, data: dict[str, list[MatchRow]]) -> Result:
        matches = embed_matches(self, embedder, data)
        result = score_matches(self, embedder, matches)
        add_breakdown(result, matches, replaced_attribute)
        return result

    def _hub_rows(self) -> dict[str, list[MatchRow]]:
        data = self.hub_rows(["image", "bbox", "pos_expression", "neg_expression", "subset"])
        rows: dict[str, list[MatchRow]] = {}
        first: dict[Any, int] = {}  # rows of one image_id share its first row's image, so that it is encoded once
        for index, row in enumerate(data):
            if row["subset"] in self.subsets:
                place = first.setdefault(row["image_id"], index) if "image_id" in row else index
                x, y, w, h = row["bbox"]
                texts = [_positive(row["pos_expression"]), *row["neg_expression"]]
                box = np.array([x, y, x + w, y + h], np.float32)
                rows.setdefault(row["subset"], []).append(
                    MatchRow(DatasetImage(data, place), box, row["image"].size, texts)
                )
        return rows


def _read(path: Path, images: Path, task: FGOVD) -> Iterator[MatchRow]:
    if not path.exists():
        raise ValueError(
            f"task fgovd: {path} does not exist; leave the subset out with subsets=… or add the file.\n{task.wants}"
        )
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                x, y, w, h = (float(v) for v in row["bbox"])
                size = (float(row["width"]), float(row["height"]))
                texts = [_positive(row["pos_expression"]), *row["neg_expression"]]
                image = ImageFile(inside(images, row["img_path"]))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: malformed ({type(error).__name__}: {error}).\n{task.wants}"
                ) from None
            yield MatchRow(image, np.array([x, y, x + w, y + h], np.float32), size, texts)


def _positive(expressions: str | list[str]) -> str:
    if isinstance(expressions, str):
        return expressions
    if len(expressions) != 1:
        raise ValueError(f"FG-OVD rows have one positive caption; got {len(expressions)}: {expressions}.")
    return expressions[0]
