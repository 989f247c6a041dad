"""A CSV, TSV or JSON lines file beside a folder of images."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.image_sources import FolderImages
from dataset_scripts.json_stream import DamagedRecord, iterate_records
from dataset_scripts.own_data.coco import fingerprint_files
from dataset_scripts.own_data.mapping import Columns, check_columns, draft_from_row, value_at
from dataset_scripts.report import Report

csv.field_size_limit(1 << 24)  # a cell may hold the regions of an image as JSON


def _rows(path: Path) -> Iterator[Any]:
    if path.suffix in (".csv", ".tsv"):
        with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
            yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
    else:
        yield from iterate_records(str(path))


def table_source(path: Path, images: str, columns: Columns) -> Source:
    """Rows of a ``.csv``, ``.tsv``, ``.json`` or ``.jsonl`` file.

    Args:
        path: the file.
        images: folder or URL in which the image column's paths lie.
        columns: which column holds what.

    Raises:
        ValueError: the file is empty or lacks a column.
    """
    first = next((row for row in _rows(path) if isinstance(row, dict)), None)
    if first is None:
        raise ValueError(f"{path} holds no row")
    check_columns(columns, set(first), str(path))

    def drafts(report: Report) -> Iterator[Draft]:
        for number, row in enumerate(_rows(path)):
            report.keep("records read")
            where = f"{path.name}[{number}]"
            if isinstance(row, DamagedRecord) or not isinstance(row, dict):
                report.bad("record is no valid JSON object", where, row)
                continue
            image = value_at(row, columns.image)
            if not isinstance(image, str) or not image:
                report.bad("row without an image", where, image)
                continue
            draft = draft_from_row(row, columns, image, image, report)
            if draft is not None:
                yield draft

    return Source(path.stem, fingerprint_files([path]), drafts, FolderImages(images), path.stat().st_size)
