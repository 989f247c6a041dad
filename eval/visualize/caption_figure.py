"""Table 7 of the paper as one PNG: the image with its region, and beside it the captions with every model's scores."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from eval.report.document import Cell, Table, text_of
from eval.visualize.pages import NormalizedBox, draw_boxed

# The report's colors (eval/report/html.py), in its light form.
INK, SOFT, LINE, BAR, OWN = "#1b1f24", "#5b6570", "#dfe3e8", "#cfe3ff", "#f2f7ff"

# All lengths are inches; the letters that fit a column belong to its width at SIZE points.
MARGIN, GAP = 0.3, 0.3
PICTURE = (3.4, 4.4)  # at most, width and height
CAPTION_WIDTH, CAPTION_LETTERS = 3.9, 50
MODEL_WIDTH, MODEL_LETTERS = 1.2, 13
LINE_HEIGHT, PADDING, BAR_HEIGHT = 0.175, 0.075, 0.21
SIZE, DPI = 9.5, 150


def caption_figure(path: Path, image: Image.Image, box: NormalizedBox, table: Table, title: str, note: str) -> Path:
    """Save the figure.

    Args:
        image: RGB, any size. box: normalized xyxy.
        table: captions as rows, models as columns; `own` rows hold a true caption. A cell's share is its bar.
        title: above it. note: below it, on how the numbers are to be read.
    Returns:
        `path`.
    Raises:
        ValueError: matplotlib is not installed.
    """
    from eval.visualize.figures import require_matplotlib

    require_matplotlib()
    from matplotlib.figure import Figure

    rows = [_lines([text_of(row[0])], CAPTION_LETTERS) for row in table.rows]
    heads = [name_in_lines(name, MODEL_LETTERS) for name in table.header[1:]]
    heights = [_height(heads), *map(_height, rows)]
    scale = min(PICTURE[0] / image.width, PICTURE[1] / image.height)
    picture = image.width * scale, image.height * scale
    left = MARGIN + picture[0] + GAP
    width = left + CAPTION_WIDTH + MODEL_WIDTH * len(heads) + MARGIN
    top = MARGIN + 0.4
    foot = _lines([note], int((width - 2 * MARGIN) / 0.067))
    bottom = top + max(picture[1], sum(heights)) + 0.15
    figure = Figure(figsize=(width, bottom + _height(foot) + MARGIN / 2), facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    draw_boxed(axis, image, box, (MARGIN, top, *picture))
    axis.set(xlim=(0, width), ylim=(figure.get_figheight(), 0), aspect="auto")  # inches, from the upper left corner
    axis.set_axis_off()
    _text(axis, MARGIN, MARGIN, title, size=13, weight="bold", va="top")
    _text(axis, MARGIN, bottom, foot[0], color=SOFT, size=8, va="top")
    _draw_table(axis, table, [heads, *rows], heights, left, top)
    figure.savefig(path, dpi=DPI)
    return path


def _draw_table(
    axis: Any, table: Table, texts: list[list[str]], heights: list[float], left: float, top: float
) -> None:
    """Header and rows at (left, top): `texts` holds the wrapped header, then the wrapped caption of every row."""
    edges = [left + CAPTION_WIDTH + MODEL_WIDTH * number for number in range(len(table.header))]
    for edge, head in zip(edges[1:], texts[0], strict=True):
        _text(axis, edge - 0.06, top + heights[0] - PADDING, head, color=SOFT, weight="bold", ha="right", va="bottom")
    y = top + heights[0]
    axis.plot((left, edges[-1]), (y, y), color=SOFT, linewidth=0.9)
    for number, (row, (caption,)) in enumerate(zip(table.rows, texts[1:], strict=True)):
        height, own = heights[number + 1], number in table.own
        if own:
            _bar(axis, left, y, edges[-1] - left, height, OWN)
        _text(axis, left + 0.06, y + height / 2, caption, weight="bold" if own else "normal")
        for edge, cell in zip(edges, row[1:], strict=False):
            _draw_cell(axis, cell, edge, y, height)
        y += height
        axis.plot((left, edges[-1]), (y, y), color=LINE, linewidth=0.7)


def _draw_cell(axis: Any, cell: Cell | str, x: float, y: float, height: float) -> None:
    """A number, bold where it is the model's highest, over its bar."""
    share = (cell.share or 0.0) if isinstance(cell, Cell) else 0.0
    _bar(axis, x + 0.15, y + (height - BAR_HEIGHT) / 2, share * (MODEL_WIDTH - 0.15), BAR_HEIGHT, BAR)
    weight = "bold" if share == 1 else "normal"
    _text(axis, x + MODEL_WIDTH - 0.06, y + height / 2, text_of(cell), weight=weight, ha="right")


def _bar(axis: Any, x: float, y: float, width: float, height: float, color: str) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((x, y), width, height, facecolor=color, linewidth=0))


def _text(axis: Any, x: float, y: float, text: str, **style: Any) -> None:
    style = {"color": INK, "size": SIZE, "va": "center", "linespacing": 1.25} | style
    axis.text(x, y, text, parse_math=False, **style)  # a price in dollars is no formula


def _lines(texts: Sequence[str], letters: int) -> list[str]:
    return ["\n".join(textwrap.wrap(text, letters)) for text in texts]


def name_in_lines(name: str, letters: int) -> str:
    """A model's name in lines of at most `letters`, broken behind /, _, - or a blank where that is possible."""
    lines = [""]
    for part in re.split(r"(?<=[/_ -])", name):
        if len(lines[-1]) + len(part) <= letters:
            lines[-1] += part
        else:
            lines += [part[i : i + letters] for i in range(0, len(part), letters)]
    return "\n".join(line.strip() for line in lines if line.strip())


def _height(texts: list[str]) -> float:
    """Of the tallest of texts side by side."""
    return LINE_HEIGHT * max(1 + text.count("\n") for text in texts) + 2 * PADDING
