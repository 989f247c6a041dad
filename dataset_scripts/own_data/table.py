"""A CSV, TSV or JSON lines file beside a folder of images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.formats.table import read_table
from dataset_scripts.image_stores import FolderImages
from dataset_scripts.json_stream import DamagedRecord
from dataset_scripts.own_data.columns import Columns
from dataset_scripts.own_data.mapping import (
    check_columns,
    draft_from_row,
    fingerprint_files,
    usual_columns,
    value_at,
)
from dataset_scripts.report import Report

_LOOKED_AT = 100  # rows, for the columns: an object of JSON lines may lack some


def _draft(row: Any, columns: Columns, where: str, report: Report) -> Draft | None:
    if isinstance(row, DamagedRecord):
        report.bad("row is damaged", where, row.text)
        return None
    image = value_at(row, columns.image)
    if not isinstance(image, str) or not image.strip():
        report.bad("row without an image", where, image)
        return None
    image = image.strip().replace("\\", "/").removeprefix("./")  # a table written on Windows
    return draft_from_row(row, columns, image, image, where, report)


def table_source(path: Path, images: str, columns: Columns | None = None, encoding: str | None = None) -> Source:
    """Rows of a ``.csv``, ``.tsv``, ``.txt``, ``.json`` or ``.jsonl`` file; see :func:`~dataset_scripts.formats.table.read_table`.

    Args:
        path: the file.
        images: folder or URL in which the image column's paths lie.
        columns: which column holds what; None: those that are called like the parts of a record.
        encoding: of the file, such as ``"cp1252"``; None: UTF-8, or what a byte-order mark says.

    Raises:
        ValueError: the file is empty or lacks a column.
    """
    wanted = columns.names() if columns else []
    rows = (row for _, row in itertools.islice(read_table(path, wanted, encoding), _LOOKED_AT))
    present = {name for row in rows if isinstance(row, dict) for name in row}
    if not present:
        raise ValueError(f"{path} holds no row")
    columns = columns or usual_columns(present)
    check_columns(columns, present, str(path))
    names = columns.names()

    def drafts(report: Report) -> Iterator[Draft]:
        for where, row in read_table(path, names, encoding):
            report.keep("records read")
            draft = None
            with report.entry(where):
                draft = _draft(row, columns, where, report)
            if draft is not None:
                yield draft

    return Source(
        path.stem, fingerprint_files([path], columns, encoding), drafts, FolderImages(images), path.stat().st_size
    )
