"""Records for the tasks on a FineHARD-like folder or data set: annotations now, images later.

Images are turned upright as their EXIF orientation says, like those of training: their boxes refer to upright images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.images import Boxes, DatasetImage, ImageFile, ImageSource, inside
from eval.tasks.base import Task
from eval.tasks.reading import at, numbers_of, read_json, text_of, texts_of

PUBLISHED_PREFIX = "grit-20m/data-12m/"  # stands before every f_path of FineHARD and names no folder


@dataclass
class Region:
    """One box with its expressions; `bbox` is normalized xyxy."""

    bbox: list[float]
    short: str | None
    long: str | None
    negatives: list[str]


@dataclass
class EvalRecord:
    """One image with its captions and regions."""

    image: ImageSource
    caption: str | None
    short_caption: str | None
    regions: list[Region]

    def boxes(self, which: list[int]) -> Boxes:
        return Boxes(np.array([self.regions[i].bbox[:4] for i in which], dtype=np.float32))


WANTS = """It wants FineHARD's published layout:
  ROOT/jsonfiles/*.json    lists of records: f_path, caption, short_caption, bbox_info
  ROOT/images/…            the images, found by f_path
where ROOT is the data folder, or its test/ or dev/ folder (option root=FOLDER). `python -m dataset_scripts.sample --output DIR`
makes one; FineHARD itself is at https://huggingface.co/datasets/qihoo360/FineHARD."""
COLUMNS = (
    "It needs this project's record: image, caption, short_caption, regions (bbox, short_expr, long_expr, negatives)."
)


def read_records(task: Task, root: Path, limit: int = 0) -> list[EvalRecord]:
    """All records of a task's data: from the Hub when the task says so, else from the published layout.

    Raises:
        ValueError: no such folder, or a record that cannot be read.
    """
    rows = _hub_records(task) if task.hub else _folder_records(task, root)
    records = []
    for record in rows:
        records.append(record)
        if limit and len(records) == limit:
            break
    if not records:
        raise ValueError(f"task {task.name}: its data holds no record.\n{task.wants}")
    return records


def _folder_records(task: Task, root: Path) -> Iterator[EvalRecord]:
    candidates = [root] if root != Path() else [Path(), Path("test"), Path("dev")]
    folder = task.path(*[c / "jsonfiles" for c in candidates], what="folder of annotations").parent
    files = sorted((folder / "jsonfiles").glob("*.json"))
    for file in files:
        rows = read_json(task, file)
        if not isinstance(rows, list):
            raise ValueError(
                f"task {task.name}: {file} holds a JSON {type(rows).__name__}; it must be a list of records.\n{task.wants}"
            )
        for number, row in enumerate(rows):
            with at(task, f"{file}, record {number}"):
                record = _record(row, folder / "images")
            yield record


def _record(row: dict[str, Any], images: Path) -> EvalRecord:
    regions = []
    for box in row.get("bbox_info") or []:
        negatives = box.get("short_expr_negs") or {} if box.get("flag_short_neg") else {}
        ordered = [negatives[key] for key in sorted(negatives, key=int)]
        regions.append(_region(box["bbox"], box.get("short_expr"), box.get("long_expr"), ordered))
    image = ImageFile(inside(images, row["f_path"].removeprefix(PUBLISHED_PREFIX)))
    return EvalRecord(image, _optional(row, "caption"), _optional(row, "short_caption"), regions)


def _region(bbox: Any, short: Any, long: Any, negatives: Any) -> Region:
    """Raises ValueError: a box without four numbers, or an expression that is no text."""
    texts = {"short_expr": short, "long_expr": long}
    return Region(
        numbers_of(bbox, 4, "bbox (x1, y1, x2, y2)"),
        *(_optional(texts, name) for name in texts),
        texts_of(negatives if negatives is not None else [], "negatives", empty=True),
    )


def _optional(row: dict[str, Any], name: str) -> str | None:
    """A text that may be missing: None, or nothing in it."""
    value = row.get(name)
    return text_of(value, name) if value and str(value).strip() else None


def _hub_records(task: Task) -> Iterator[EvalRecord]:
    rows = task.hub_rows(["image", "caption", "short_caption", "regions"])
    for index, row in enumerate(rows.remove_columns("image")):
        with at(task, f"{task.hub}, row {index}"):
            regions = [
                _region(r["bbox"], r["short_expr"], r["long_expr"], r["negatives"]) for r in row["regions"] or []
            ]
            captions = _optional(row, "caption"), _optional(row, "short_caption")
            record = EvalRecord(DatasetImage(rows, index), *captions, regions)
        yield record
