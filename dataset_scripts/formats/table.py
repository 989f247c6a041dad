"""Text tables: CSV, TSV and their relatives, and JSON in lines or lists, as rows with their places; no row is lost."""

from __future__ import annotations

import csv
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import fsspec

from dataset_scripts.json_stream import DamagedRecord, iterate_records, open_text

csv.field_size_limit(1 << 24)  # a cell may hold the regions of an image as JSON

_PACKED = (".gz", ".bz2", ".xz")
_JSON = (".json", ".jsonl", ".ndjson")
_SEPARATED = (".csv", ".tsv", ".txt", ".tab")
_LINES_OF_A_ROW = 1000  # after which a quote is taken for one that is never closed


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in _JSON + _SEPARATED:
        raise ValueError(
            f"{path} is no table that is read here: its name ends with {kind or 'no suffix'}; it must be one of "
            f"{', '.join(_SEPARATED + _JSON)}, packed or not"
        )
    return kind


def _csv_rows(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Number of its first line and cells of each row. Behind a row that is no CSV, reading goes on with its second line."""
    waiting: deque[str] = deque()
    taken: list[str] = []

    def feed() -> Iterator[str]:
        while (
            len(taken) < _LINES_OF_A_ROW and (line := waiting.popleft() if waiting else next(lines, None)) is not None
        ):
            taken.append(line)
            yield line

    number = 1
    while True:
        taken.clear()
        try:
            cells = next(csv.reader(feed(), delimiter=delimiter, strict=True, skipinitialspace=True))
        except StopIteration:
            return
        except csv.Error as error:
            yield number, error
            waiting.extendleft(reversed(taken[1:]))
            number += 1
        else:
            yield number, cells
            number += len(taken)


def _tsv_rows(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line. In TSV a quote is a letter, unless a writer of CSV has quoted cells."""
    unquote = False
    for number, line in enumerate(lines, 1):
        cells = line.rstrip("\r\n").split("\t")
        if number == 1:
            unquote = all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
        for index, cell in enumerate(cells):
            if len(cell) > 1 and cell[0] == cell[-1] == '"':
                single = cell[1:-1].replace('""', "")
                if '"' not in single and (unquote or len(single) < len(cell) - 2):
                    cells[index] = cell[1:-1].replace('""', '"')
        yield number, cells


def _rows_of(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    return _tsv_rows(lines) if delimiter == "\t" else _csv_rows(lines, delimiter)


def _header(line: str, delimiter: str) -> list[str]:
    _, cells = next(_rows_of(iter([line]), delimiter), (1, []))
    return [cell.strip() for cell in cells] if isinstance(cells, list) else []


def _separated(file: IO[str], path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
    first = next(iter(file), "")
    # The delimiter is the one by which the first line has the wanted columns; the suffix says too little of it.
    order = "\t,;|" if _kind(path) in (".tsv", ".tab") else ",\t;|"
    delimiter = max(order, key=lambda one: len({name.split(".")[0] for name in columns} & set(_header(first, one))))
    header = _header(first, delimiter)
    repeated = sorted({name for name in columns if header.count(name) > 1})
    if repeated:
        raise ValueError(f"{path} has several columns {repeated[0]!r}; rename all but one")
    for number, cells in _rows_of(itertools.chain([first], file), delimiter):
        where = f"{path.name}, line {number}"
        if number == 1 or cells == [] or cells == [""]:
            continue
        if isinstance(cells, csv.Error):
            yield where, DamagedRecord(str(cells))
        elif len(cells) < len(header) or any(cells[len(header) :]):
            shown = delimiter.join(cells)[:200]
            yield where, DamagedRecord(f"{len(cells)} cells under a header of {len(header)}: {shown}")
        else:
            yield where, dict(zip(header, cells, strict=False))


def read_cells(path: Path, encoding: str | None = None) -> Iterator[tuple[str, Any]]:
    """Place and cells of each row of a CSV file without a header; a row that is none is a DamagedRecord."""
    with fsspec.open(str(path), "rb", compression="infer") as file:
        for number, cells in _csv_rows(iter(open_text(file, encoding)), ","):
            if cells:
                yield (
                    f"{path.name}, line {number}",
                    DamagedRecord(str(cells)) if isinstance(cells, csv.Error) else cells,
                )


def read_table(path: Path, columns: Sequence[str] = (), encoding: str | None = None) -> Iterator[tuple[str, Any]]:
    """Place and content of each row of a table, as an object of its columns; a row that is none is a DamagedRecord.

    CSV is read strictly: a row with more or fewer cells than the header, such as one whose text has commas and no quotes,
    or one with a quote that is not closed, is damaged, and so is no other row. TSV has no quoting.

    Args:
        path: ``.csv``, ``.tsv``, ``.tab``, ``.txt`` or ``.json``, ``.jsonl``, ``.ndjson``, also packed.
        columns: that are wanted; they tell which of comma, tab, semicolon and bar separates the cells.
        encoding: of the file; None: UTF-8, or UTF-16 where a byte-order mark says so.

    Raises:
        ValueError: another suffix, or a wanted column that the header has twice.
    """
    if _kind(path) in _JSON:
        for number, row in enumerate(iterate_records(str(path), encoding=encoding)):
            yield f"{path.name}[{number}]", row
        return
    with fsspec.open(str(path), "rb", compression="infer") as file:
        yield from _separated(open_text(file, encoding), path, columns)


def read_quoted_tsv(path: Path) -> Iterator[tuple[str, Any]]:
    """Place and content of each row of a TSV file as pandas writes it: cells with tabs, line breaks or quotes are quoted.

    A row that is none is a DamagedRecord; behind a quote that is never closed nothing can be read.

    Raises:
        ValueError: no UTF-8.
    """
    with fsspec.open(str(path), "rb", compression="infer") as file:
        reader = csv.reader(open_text(file), delimiter="\t", strict=True)
        header: list[str] = []
        while True:
            where = f"{path.name}, line {reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield where, DamagedRecord(f"{error}; is a quote never closed?")
                return
            if not header:
                header = cells
            elif len(cells) != len(header):
                yield where, DamagedRecord(f"{len(cells)} cells under a header of {len(header)}")
            else:
                yield where, dict(zip(header, cells, strict=True))
