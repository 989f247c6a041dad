"""Reading annotations: what is wrong in a file is said with the file and the place in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataset_scripts.formats import files
from dataset_scripts.report import Report
from dataset_scripts.units import UnitCheck
from eval.images import Boxes
from eval.tasks.base import Benchmark, Task


@contextlib.contextmanager
def at(task: Benchmark, place: str, complaint: str = "malformed") -> Iterator[None]:
    """Errors inside say where: `place` names the file and the line or entry.

    Raises:
        ValueError: for whatever foreign data make a reader raise.
    """
    try:
        yield
    except Exception as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(f"task {task.name}: {place}: {complaint} ({kind}{error}).\n{task.wants}") from None


@contextlib.contextmanager
def shared_reader(task: Benchmark) -> Iterator[Report]:
    """The report for a reader of `dataset_scripts.formats`, which stops at the first fault.

    Raises:
        ValueError: with the task, and what it wants.
    """
    try:
        yield Report("raise", "correct it or download it again")
    except ValueError as error:
        raise ValueError(f"task {task.name}: {error}.\n{task.wants}") from None


def read_json(task: Benchmark, file: Path) -> Any:
    """A JSON file.

    Raises:
        ValueError: it is none.
    """
    with shared_reader(task):
        return files.read_json(file)


def json_lines(task: Benchmark, file: Path) -> Iterator[tuple[str, Any]]:
    """The lines of a JSON Lines file that are not empty.

    Yields:
        the place ("FILE, line 3") and the parsed line.
    Raises:
        ValueError: a line that is not JSON.
    """
    with file.open("rb") as lines:  # as bytes, so that a line of another encoding is found by its number
        for number, line in enumerate(lines, 1):
            if line.strip():
                place = f"{file}, line {number}"
                with at(task, place):
                    row = json.loads(line.decode("utf-8-sig"))
                yield place, row


def text_of(value: Any, name: str) -> str:
    """`value`, if it is a text that says something.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text; got {value!r}")
    return value


def texts_of(value: Any, name: str, empty: bool = False) -> list[str]:
    """`value` as a list of texts; a single text is refused, since it would be read letter by letter.

    Args:
        empty: let texts pass that say nothing; the embedder refuses them where a task reads them.
    Raises:
        ValueError: not a list, or not of texts.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list of texts; got {value!r}")
    if empty and all(isinstance(text, str) for text in value):
        return list(value)
    return [text_of(text, f"{name}[{i}]") for i, text in enumerate(value)]


def numbers_of(value: Any, count: int, name: str) -> list[float]:
    """The first `count` numbers of a list.

    Raises:
        ValueError: fewer, or something else.
    """
    try:
        numbers = [float(number) for number in value][:count]
    except Exception:  # said below
        numbers = []
    if len(numbers) < count or isinstance(value, str):
        raise ValueError(f"{name} must be {count} numbers; got {value!r}")
    return numbers


def xywh_of(value: Any) -> list[float]:
    """A box of x, y, width, height as its corners x1, y1, x2, y2.

    Raises:
        ValueError: not four numbers.
    """
    x, y, width, height = numbers_of(value, 4, "bbox (x, y, width, height)")
    return [x, y, x + width, y + height]


def require_subsets(task: Benchmark, wanted: Sequence[str], known: Sequence[str]) -> None:
    """Check the option `subsets`.

    Raises:
        ValueError: none, or one that the task does not have.
    """
    unknown = sorted(set(wanted) - set(known))
    if unknown or not wanted:
        raise ValueError(
            f"task {task.name} has the subsets {', '.join(known)}; got {', '.join(unknown) or 'none'}. Correct the option subsets."
        )


def require_rows(task: Task, subsets: Mapping[str, Sequence]) -> None:
    """A subset that was asked for must not vanish from the result.

    Raises:
        ValueError: one without a row; names it.
    """
    empty = [name for name, rows in subsets.items() if not rows]
    if empty:
        source = task.hub or "its files"
        raise ValueError(
            f"task {task.name}: no row of the subset{'s' if len(empty) > 1 else ''} {', '.join(empty)} in {source}; "
            f"leave it out with subsets=… or add the rows.\n{task.wants}"
        )


def check_units(task: Task, boxes: Iterable[Boxes]) -> None:
    """Boxes in pixels must be in pixels: fractions taken for them would all be one corner of the image.

    Raises:
        ValueError: no edge of any box lies beyond 1.
    """
    check = UnitCheck()
    for part in boxes:
        if part.size is not None:
            for box in np.asarray(part.xyxy).reshape(-1, 4):
                check.add(box, "xyxy")
    with shared_reader(task):
        check.refuse("xyxy", task.hub or "the annotations")
