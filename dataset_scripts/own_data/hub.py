"""Any image data set that ``datasets.load_dataset`` reads: on the Hugging Face Hub, or as local files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Image, Value, load_dataset

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.formats.objects import category_names
from dataset_scripts.image_stores import MissingImage
from dataset_scripts.own_data.columns import Columns
from dataset_scripts.own_data.mapping import check_columns, draft_from_row, fingerprint_files, usual_columns
from dataset_scripts.report import Report

_BLOCK = 1000  # rows that are read together


@dataclass
class RowImages:
    """The images in one column of a map-style set, named by their row number."""

    rows: Dataset
    readers: int = 4

    def picture(self, image: str) -> str:
        """The same for the same picture, so that rows that repeat it, one a caption, become one record.

        Raises:
            MissingImage: there is none.
        """
        return hashlib.blake2b(self.read(image), digest_size=16).hexdigest()

    def read(self, image: str) -> bytes:
        value = self.rows[int(image)][self.rows.column_names[0]]
        if value is None:
            raise MissingImage("row has no image")
        if value["bytes"] is not None:
            return value["bytes"]
        try:
            with open(value["path"], "rb") as file:
                return file.read()
        except (OSError, TypeError) as error:
            raise MissingImage("image file is missing") from error


def _rows(texts: Dataset, name: str, report: Report) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Place, number and content of each row; of a block that cannot be read, such as one with broken UTF-8, row by row."""
    for start in range(0, len(texts), _BLOCK):
        numbers = range(start, min(start + _BLOCK, len(texts)))
        block: list[dict[str, Any] | None] | None = None
        try:
            columns = texts[start : numbers.stop]
            block = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        except Exception:  # found out row by row
            block = None
        for number in numbers:
            where = f"{name}[{number}]"
            report.keep("records read")
            row = block[number - start] if block is not None else None
            if block is None:
                with report.entry(where, "row cannot be read"):
                    row = texts[number]
            if row is not None:
                yield where, number, row


def _with_names(row: dict[str, Any], column: str, names: list[str]) -> dict[str, Any]:
    """The row with the numbers of its categories as words."""

    def words(category: Any) -> Any:
        if isinstance(category, list | tuple):
            return [words(one) for one in category]
        return names[category] if category is not None and category >= 0 else None

    objects = row[column]
    if isinstance(objects, dict):
        return {**row, column: {**objects, "category": words(objects["category"])}}
    return {**row, column: [{**one, "category": words(one["category"])} for one in objects or []]}


def hub_source(
    name: str,
    columns: Columns | None = None,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
) -> Source:
    """Rows of a data set with an image column, by a mapping of columns.

    Args:
        name: ``owner/name`` on the Hub, or what else ``load_dataset`` takes. Code in a data set is never run.
        columns: which column holds what; None: those that are called like the parts of a record.
        split, config, revision: as ``load_dataset`` takes them.

    Raises:
        ValueError: there is no such set, it lacks a column, or the image column holds no images.
    """
    try:
        rows = load_dataset(name, config, split=split, revision=revision)
    except Exception as error:  # not found, no network, no such split, files that are not what they are called
        raise ValueError(
            f"the data set {name!r} cannot be loaded (config {config!r}, split {split!r}): {error}. It must be a "
            "repository of the Hub or a folder that `datasets.load_dataset` reads"
        ) from error
    return _rows_source(rows, name, columns, split, revision, config)


def parquet_files(place: Path) -> list[Path]:
    """The file itself, or those below a folder in the order of their names."""
    return [place] if place.is_file() else sorted(path for path in place.rglob("*.parquet") if path.is_file())


def parquet_source(place: Path, columns: Columns | None = None) -> Source:
    """Rows of parquet files with encoded images, such as a downloaded data set; they are read into `datasets`' cache.

    Args:
        place: a file, or a folder with ``*.parquet``.
        columns: which column holds what; None: those that are called like the parts of a record. The image is bytes, or
            a struct of bytes and path.

    Raises:
        ValueError: no such files, they lack a column, or the image column holds no images.
    """
    files = parquet_files(place)
    if not files:
        raise ValueError(f"{place} holds no .parquet file")
    try:
        rows = load_dataset("parquet", data_files=[str(path) for path in files], split="train")
    except Exception as error:  # as above
        raise ValueError(
            f"the parquet files in {place} cannot be read: {error}. All must be whole and have the same columns"
        ) from error
    return _rows_source(rows, place.stem, columns, place.stem)


def _rows_source(
    rows: Dataset,
    name: str,
    columns: Columns | None,
    split: str,
    revision: str | None = None,
    config: str | None = None,
) -> Source:
    columns = columns or usual_columns(rows.column_names)
    check_columns(columns, set(rows.column_names), name)
    kind = rows.features[columns.image]
    plain = (isinstance(kind, Value) and "binary" in kind.dtype) or (
        isinstance(kind, dict) and {*kind} == {"bytes", "path"}
    )
    if not (plain or isinstance(kind, Image)):
        raise ValueError(
            f"column {columns.image!r} of {name} is {kind}, not an Image; if it holds paths or "
            "URLs, save the table as CSV and use the converter for tables"
        )
    pictures = rows.select_columns([columns.image]).cast_column(columns.image, Image(decode=False))
    texts = rows.remove_columns([columns.image])
    names = category_names(rows.features.get(columns.regions))
    images = RowImages(pictures)

    def drafts(report: Report) -> Iterator[Draft]:
        for where, number, row in _rows(texts, split, report):
            draft = None
            with report.entry(where):
                row = _with_names(row, columns.regions, names) if names else row
                draft = draft_from_row(row, columns, str(number), f"{split}/{number}", where, report)
            with contextlib.suppress(MissingImage):  # which is counted when it is read
                if draft is not None:
                    draft["picture"] = images.picture(str(number))
            if draft is not None:
                yield draft

    return Source(
        name,
        fingerprint_files([], revision or rows._fingerprint, split, config, columns),
        drafts,
        images,
        1000 * len(rows),
    )
