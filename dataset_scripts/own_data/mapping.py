"""Rows with columns of any name into drafts of records."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from dataset_scripts.convert.source import Draft
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.formats.coco import declared_size
from dataset_scripts.formats.objects import list_of_objects
from dataset_scripts.own_data.columns import ROLES, Columns
from dataset_scripts.records import clean_texts, join_captions
from dataset_scripts.report import Report


def usual_columns(present: Collection[str]) -> Columns:
    """The columns that are called what they hold, where nobody named any."""

    def first(*names: str) -> str | None:
        return next((name for name in names if name in present), None)

    return Columns(
        caption=first("caption"),
        short_caption=first("short_captions", "short_caption"),
        regions=first("regions"),
        source_id=first("source_id"),
    )


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
    for role in ROLES:
        name = getattr(columns, role)
        if name is not None and name not in present and name.split(".")[0] not in present:
            raise ValueError(f"{where} has no column {name!r} for the {role}; it has {sorted(map(str, present))}")


def name_objects(names: Iterable[str]) -> list[str]:
    """A short caption for an image without one, if it has boxes: the objects in them, each kind once."""
    kinds = list(dict.fromkeys(names))
    return [f"a photo of {', '.join(kinds)}"] if kinds else []


_BETWEEN_TEXTS = (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)


def _python_list(cell: str) -> list[Any] | None:
    """The texts of ``['one', "two"]`` as Python writes a list and NumPy an array (without commas); None of all else."""
    texts = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(cell.strip()).readline):
            if token.type == tokenize.STRING:
                texts.append(ast.literal_eval(token.string))
            elif token.type not in _BETWEEN_TEXTS and token.string not in ("[", "]", ","):
                return None
    except Exception:  # it is a text that looks like a list
        return None
    return texts


def _listed(cell: str) -> list[str] | None:
    """The texts of a cell that holds a list of them, as JSON or as Python writes it; None of all else."""
    if not (cell.lstrip().startswith("[") and cell.rstrip().endswith("]")):
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        found = _python_list(cell)
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else None


def captions_in(value: Any, kind: str, where: str, report: Report) -> list[str]:
    """The usable captions of a cell: a text, a list of texts, or the text of such a list."""
    if isinstance(value, str) and (listed := _listed(value)) is not None:
        value = listed
    return clean_texts(value, kind, where, report)


def _regions(row: dict[str, Any], columns: Columns, where: str, report: Report) -> Any:
    """One object a box, each with an expression: its own, or the name of its category."""
    value = value_at(row, columns.regions)
    with report.entry(where, "regions are malformed"):
        if isinstance(value, str):
            value = json.loads(value) if value.strip() else None
        value = list_of_objects(value)
        if isinstance(value, list | tuple):
            value = [
                {"short_expr": one["category"], **one} if isinstance(one, dict) and "category" in one else one
                for one in value
            ]
        return value
    return None


def _number_in(value: Any) -> Any:
    """The number that a cell of a text table holds; what is none is given back for its judge to name."""
    if not isinstance(value, str):
        return value
    try:
        return float(value) if value.strip() else None
    except ValueError:
        return value


def draft_from_row(row: dict[str, Any], columns: Columns, image: str, name: str, where: str, report: Report) -> Draft:
    """The draft of a row.

    Args:
        row: column name to value.
        columns: see :class:`Columns`.
        image: what the source of images knows the image by.
        name: ``source_id`` unless there is a column for it.
        where: file and place of the row.
        report: counts faults.
    """
    source_id = value_at(row, columns.source_id)
    source_id = str(source_id) if source_id not in (None, "") else name
    captions = captions_in(value_at(row, columns.caption), "caption", where, report)
    shorts = captions_in(value_at(row, columns.short_caption), "short caption", where, report)
    if columns.short_caption is None and len(captions) > 1:
        shorts = captions
    draft: Draft = {
        "image": image,
        "caption": join_captions(captions),
        "short_captions": shorts,
        "regions": _regions(row, columns, where, report),
        "source_id": source_id,
        "box_format": columns.box_format,
    }
    size = declared_size(*(_number_in(value_at(row, column)) for column in (columns.width, columns.height)))
    return draft | ({"size": size} if size else {})


def fingerprint_files(files: Sequence[Path], *options: object) -> str:
    """The revision of a source that consists of a few files or folders, read with these options."""
    state = [
        fingerprint(str(path), times=False) if path.is_dir() else f"{path.name} {path.stat().st_size}"
        for path in files
    ]
    return hashlib.sha256("\n".join([*state, *map(repr, options)]).encode()).hexdigest()[:16]
