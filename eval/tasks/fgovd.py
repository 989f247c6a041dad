"""FG-OVD (Bianchi et al., 2024) as FG-CLIP evaluates it: a region against one true and ten false captions (table 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dataset_scripts.formats.coco import declared_size
from eval.attributes import changed_attributes, object_class
from eval.images import DatasetImage, ImageFile, ImageSource, inside, upright_boxes
from eval.results import Result
from eval.tasks.base import Task, register
from eval.tasks.matching import (
    MatchRow,
    add_breakdown,
    add_class_breakdown,
    check_matches,
    embed_matches,
    score_matches,
)
from eval.tasks.reading import (
    at,
    json_lines,
    require_rows,
    require_subsets,
    text_of,
    texts_of,
    xywh_of,
)

if TYPE_CHECKING:
    from eval.embed import Embedder

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

    The breakdown has one group for each kind of attribute that was replaced (color, material, …; `eval.attributes`): the true
    caption against the negatives in which it changed. A negative of medium or easy changes several and counts in each. And one
    group for each frequent class ("class: bottle"): the published `category_id` is the caption's place among its
    candidates, so the class is read from the true caption.

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
        require_subsets(self, self.subsets, list(FILES))
        data = self._hub_rows() if self.hub else self._file_rows()
        require_rows(self, data)
        return data

    def _file_rows(self) -> dict[str, list[MatchRow]]:
        folders = [self.annotations] if self.annotations != Path() else [Path("fgovd"), Path()]
        folder = self.path(*[f / FILES[self.subsets[0]] for f in folders], what="annotation file").parent
        image_folders = [self.images] if self.images != Path() else [Path("coco"), Path("test/images"), Path("images")]
        images = self.path(*image_folders, what="folder of images")
        return {subset: list(_read(folder / FILES[subset], images, self)) for subset in self.subsets}

    def check(self, data: dict[str, list[MatchRow]]) -> None:
        check_matches(self, data)

    def images_of(self, data: dict[str, list[MatchRow]]) -> list[ImageSource]:
        return [row.image for rows in data.values() for row in rows]

    def score(self, embedder: Embedder, data: dict[str, list[MatchRow]]) -> Result:
        matches = embed_matches(self, embedder, data)
        result = score_matches(self, embedder, matches)
        # The negatives of trivial are captions of other objects; nothing in them was replaced.
        add_breakdown(result, matches, changed_attributes, without=("trivial",))
        add_class_breakdown(result, matches, object_class)
        return result

    def _hub_rows(self) -> dict[str, list[MatchRow]]:
        data = self.hub_rows(["image", "bbox", "pos_expression", "neg_expression", "subset"])
        rows: dict[str, list[MatchRow]] = {subset: [] for subset in self.subsets}
        # rows of one image_id share its first row's image, so that it is encoded once
        known: dict[Any, DatasetImage] = {}
        for index, row in enumerate(data.remove_columns("image")):
            if row["subset"] not in rows:
                continue
            with at(self, f"{self.hub}, row {index}"):
                own = row.get("image_id")
                key = ("row", index) if own is None else ("image", own)
                image = known.setdefault(key, DatasetImage(data, index))
                rows[row["subset"]].append(_match_row(image, row))
        return rows


def _read(path: Path, images: Path, task: FGOVD) -> Iterator[MatchRow]:
    if not path.exists():
        raise ValueError(
            f"task fgovd: {path} does not exist; leave the subset out with subsets=… or add the file.\n{task.wants}"
        )
    for place, row in json_lines(task, path):
        with at(task, place):
            match = _match_row(ImageFile(inside(images, row["img_path"])), row)
        yield match


def _match_row(image: ImageSource, row: dict[str, Any]) -> MatchRow:
    boxes = upright_boxes(
        image, np.array([xywh_of(row["bbox"])], np.float32), declared_size(row.get("width"), row.get("height"))
    )
    return MatchRow(image, boxes.xyxy[0], boxes.size, _captions(row))


def _captions(row: dict[str, Any]) -> list[str]:
    """The positive caption, then the negatives.

    Raises:
        ValueError: not exactly one positive, or negatives that are no list of texts.
    """
    positive = row["pos_expression"]
    if not isinstance(positive, str):
        if len(positive) != 1:
            raise ValueError(f"FG-OVD rows have one positive caption; got {len(positive)}: {positive}")
        positive = positive[0]
    return [text_of(positive, "pos_expression"), *texts_of(row["neg_expression"], "neg_expression")]
