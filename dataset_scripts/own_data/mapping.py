"""Rows with columns of any name into drafts of records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dataset_scripts.convert.source import Draft
from dataset_scripts.records import BoxFormat, clean_text
from dataset_scripts.report import Report


@dataclass(frozen=True)
class Columns:
    """Which column holds what; a dot reaches into a nested one, such as ``json.caption``.

    ``regions`` is a list (or its JSON text) of objects with ``bbox``, ``short_expr``, ``long_expr``, ``negatives`` and
    ``score``, of which the box and one expression are needed.
    """

    image: str = "image"
    caption: str | None = "caption"
    short_caption: str | None = None
    regions: str | None = None
    source_id: str | None = None
    box_format: BoxFormat = "normalized"

    def __post_init__(self) -> None:
        if self.caption is None and self.short_caption is None:
            raise ValueError("neither a column for the caption nor one for the short caption is named; one is needed")


def value_at(row: dict[str, Any], column: str | None) -> Any:
    """The value in a column, reached through dots where the row has no such column itself; None if absent."""
    if column is None or column in row:
        return row.get(column) if column else None
    value: Any = row
    for part in column.split("."):
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = json.loads(value)
        value = value.get(part) if isinstance(value, dict) else None
    return value


def check_columns(columns: Columns, present: set[str], where: str) -> None:
    """Refuses names that the data do not have.

    Raises:
        ValueError: naming the column and those that are there.
    """
    for role in ("image", "caption", "short_caption", "regions", "source_id"):
        name = getattr(columns, role)
        if name is not None and name not in present and name.split(".")[0] not in present:
            raise ValueError(f"{where} has no column {name!r} for the {role}; it has {sorted(present)}")


def _text_or_joined(value: Any) -> Any:
    """Several captions of one image become one text."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return " ".join(f"{text.strip().rstrip('.')}." for text in value if text.strip())
    return value


def draft_from_row(row: dict[str, Any], columns: Columns, image: str, name: str, report: Report) -> Draft | None:
    """The draft of a row; None if it has no usable caption, which is counted.

    Args:
        row: column name to value.
        columns: see :class:`Columns`.
        image: what the source of images knows the image by.
        name: ``source_id`` unless there is a column for it.
        report: counts faults.
    """
    source_id = value_at(row, columns.source_id)
    source_id = str(source_id) if source_id not in (None, "") else name
    caption = clean_text(_text_or_joined(value_at(row, columns.caption)), "caption", source_id, report)
    short = clean_text(_text_or_joined(value_at(row, columns.short_caption)), "short caption", source_id, report)
    if caption is None and short is None:
        report.bad("record without a caption", source_id)
        return None
    regions = value_at(row, columns.regions)
    if isinstance(regions, str):
        try:
            regions = json.loads(regions) if regions.strip() else []
        except json.JSONDecodeError:
            report.bad("regions are no valid JSON", source_id, regions)
            regions = []
    return {
        "image": image,
        "caption": caption,
        "short_caption": short,
        "regions": regions,
        "source_id": source_id,
        "box_format": columns.box_format,
    }
