"""A report as data: sections of paragraphs and tables, rendered by `markdown` and `html`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Cell:
    """One cell; `share` and `mark` draw a bar behind a number (both fractions of the scale)."""

    text: str
    share: float | None = None
    mark: float | None = None


@dataclass
class Table:
    """Header and rows; the first `left` columns are text. Rows in `own` are this run's. `folded`: opened by a click."""

    header: Sequence[str]
    rows: list[list[Cell | str]]
    caption: str = ""
    left: int = 1
    own: set[int] = field(default_factory=set)
    folded: bool = False


@dataclass
class Section:
    """A heading with paragraphs and tables."""

    title: str
    parts: list[str | Table] = field(default_factory=list)


@dataclass
class Document:
    """A title, a line under it, and sections."""

    title: str
    subtitle: str
    sections: list[Section]


def text_of(cell: Cell | str) -> str:
    return cell.text if isinstance(cell, Cell) else cell
