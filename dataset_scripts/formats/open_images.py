"""Boxes of Open Images: https://storage.googleapis.com/openimages/web/download_v7.html."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dataset_scripts.formats.coco import category_words
from dataset_scripts.formats.files import check_unique
from dataset_scripts.formats.table import read_cells, read_table
from dataset_scripts.json_stream import DamagedRecord
from dataset_scripts.report import Report

_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")


@dataclass(frozen=True)
class OpenImagesBox:
    """One line.

    Attributes:
        where: file and line. image: its id, the name of the file without ``.jpg``. label: id of the class.
        bbox: x1, y1, x2, y2 in fractions of the image. group: it is around several objects.
    """

    where: str
    image: str
    label: str
    bbox: tuple[float, float, float, float]
    group: bool


def read_classes(path: Path, report: Report) -> dict[str, str]:
    """The name of each class id of ``class-descriptions-boxable.csv``, in the file's order.

    Raises:
        ValueError: a class id stands twice, or a fault of a line, where the report says so.
    """
    names: dict[str, str] = {}
    seen: dict[str, str] = {}
    for where, cells in read_cells(path):
        with report.entry(where, "line needs a class id and a name"):
            if isinstance(cells, DamagedRecord):
                raise ValueError(cells.text)
            label, name = cells[:2]
            if "\ufffd" in label + name:
                raise ValueError("it is no UTF-8")
            check_unique(label, where, seen, "class id")
            names[label] = category_words(name)
    return names


def read_boxes(path: Path, classes: dict[str, str], report: Report) -> Iterator[OpenImagesBox]:
    """The boxes of ``*-annotations-bbox.csv``.

    Raises:
        ValueError: the file lacks a column, or a fault of a line, where the report says so.
    """
    for where, row in read_table(path, _COLUMNS):
        found = None
        with report.entry(where):
            if isinstance(row, DamagedRecord):
                raise ValueError(row.text)
            if row["LabelName"] not in classes:
                raise ValueError(f"the class {row['LabelName']!r} is not in the class list")
            if "\ufffd" in row["ImageID"] or not row["ImageID"]:
                raise ValueError(f"ImageID is {row['ImageID']!r}")
            x1, x2, y1, y2 = (float(row[name]) for name in ("XMin", "XMax", "YMin", "YMax"))
            found = OpenImagesBox(where, row["ImageID"], row["LabelName"], (x1, y1, x2, y2), row["IsGroupOf"] == "1")
        if found is not None:
            yield found
