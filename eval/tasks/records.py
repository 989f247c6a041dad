"""Records for the tasks on a FineHARD-like folder or data set: annotations now, images later.

They come through the gate of training (`dataset_scripts/records.py`), so both hold the same records. Images are turned
upright as their EXIF orientation says, like those of training: their boxes refer to upright images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow.compute as pc

from dataset_scripts.annotations import annotation_files, read_published
from dataset_scripts.records import clean_record
from dataset_scripts.report import Fault, Report
from eval.images import Boxes, DatasetImage, ImageFile, ImageSource
from eval.results import Result
from eval.tasks.base import Task

if TYPE_CHECKING:
    from datasets import Dataset

    from dataset_scripts.schema import Region
    from eval.embed import Embedder

WANTS = """It wants FineHARD's published layout:
  ROOT/jsonfiles/*.json    lists of records: f_path, caption, short_caption, bbox_info
  ROOT/images/…            the images, found by f_path
where ROOT is the data folder, or its test/ or dev/ folder (option root=FOLDER). `python -m dataset_scripts.sample --output DIR`
makes one; FineHARD itself is at https://huggingface.co/datasets/qihoo360/FineHARD."""
COLUMNS = (
    "It needs this project's record: image, caption, short_captions, regions (bbox, short_expr, long_expr, negatives)."
)


@dataclass
class EvalRecord:
    """One image with its captions and regions."""

    image: ImageSource
    caption: str | None
    short_captions: list[str]
    regions: list[Region]

    def boxes(self, which: list[int]) -> Boxes:
        return Boxes(np.array([self.regions[i]["bbox"] for i in which], dtype=np.float32))


@dataclass
class RecordTask(Task):
    """A task on records.

    Attributes:
        root: folder with jsonfiles/ and images/, relative to `data`.
        limit: the first so many records; 0 for all.
        on_bad: "raise" stops at the first fault of a record, "skip" counts it in the result and goes on, as in training.
    """

    wants: ClassVar[str] = WANTS
    columns: ClassVar[str] = COLUMNS

    root: Path = Path()
    limit: int = 0
    on_bad: str = "raise"

    def __post_init__(self) -> None:
        self.report = Report(self.on_bad)

    def read_records(self) -> list[EvalRecord]:
        """All records of the task's data: from the Hub when the task says so, else from the published layout.

        Raises:
            ValueError: no such folder, no record, or a faulty one.
        """
        self.report = Report(self.on_bad)
        rows = self._hub_records() if self.hub else self._folder_records()
        try:
            records = list(islice(rows, self.limit or None))
        except Fault as error:
            raise ValueError(f"task {self.name}: {error}.\n{self.wants}") from None
        if not records:
            faults = f" ({dict(self.report.problems)})" if self.report.problems else ""
            raise ValueError(f"task {self.name}: its data holds no record{faults}.\n{self.wants}")
        return records

    def run(self, embedder: Embedder, data: Any = None) -> Result:
        result = super().run(embedder, data)
        result.data |= {f"faults: {reason}": count for reason, count in sorted(self.report.problems.items())}
        return result

    def _folder_records(self) -> Iterator[EvalRecord]:
        candidates = [self.root] if self.root != Path() else [Path(), Path("test"), Path("dev")]
        folder = self.path(*[c / "jsonfiles" for c in candidates], what="folder of annotations").parent
        for file in annotation_files(str(folder), {}):
            for _, where, source_id, published in read_published(file, self.report, {}):
                record = clean_record(published, source_id, self.report, f"{where} {source_id}")
                if record is not None:
                    yield _eval_record(ImageFile(folder / "images" / source_id), record)

    def _hub_records(self) -> Iterator[EvalRecord]:
        rows = self.hub_rows(["image", "caption", "regions"])
        if not {"short_captions", "short_caption"} & set(rows.column_names):
            raise ValueError(f"task {self.name}: {self.hub} has no column short_captions. {self.columns}")
        bare = _without_image(rows)
        for index, row in enumerate(rows.remove_columns("image")):
            where = f"{self.hub}, row {index}"
            if index in bare:
                self.report.bad("record without an image", where)
                continue
            record = clean_record(row, where, self.report)
            if record is not None:
                yield _eval_record(DatasetImage(rows, index), record)


def _eval_record(image: ImageSource, record: dict[str, Any]) -> EvalRecord:
    return EvalRecord(image, record["caption"], record["short_captions"], record["regions"])


def _without_image(rows: Dataset) -> set[int]:
    """The rows whose image, a column as stored, is null; no picture is read."""
    found: set[int] = set()
    start = 0
    for part in rows.select_columns(["image"]).with_format("arrow").iter(1000):
        image = part["image"]
        bare = pc.and_(pc.is_null(pc.struct_field(image, "bytes")), pc.is_null(pc.struct_field(image, "path")))
        found.update(start + int(index) for index in np.flatnonzero(bare.to_numpy(zero_copy_only=False)))
        start += len(part)
    return found
