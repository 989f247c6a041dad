"""Reads the objects of a JSON array, or of JSON lines, one after the other in constant memory.

A streaming parser such as ijson does the same, but ends at the first fault. Annotation files of several GB do hold a
cut or damaged record; here the standard library's parser is run record by record, so that one such record is
reported and reading goes on behind it.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import fsspec

_CHUNK = 1 << 20  # characters
_LARGEST_RECORD = 16 << 20  # characters; a record of FineHARD has about 4,000
_BETWEEN = re.compile(r"[\s,\[\]]*")
# Where a record starts, as seen from inside a damaged one: FineHARD's first key, or a line of JSON lines.
_START = re.compile(r'\{\s*"f_path"\s*:|(?<=\n)\{')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


@dataclass(frozen=True)
class DamagedRecord:
    """Stands for a record that is no valid JSON."""

    text: str  # its beginning


def _end_of_object(text: str, start: int, stop: int) -> int | None:
    """Index behind the bracket that closes the one at ``start``, None if it is not closed before ``stop``."""
    depth = 0
    for token in _TOKEN.finditer(text, start, stop):
        mark = token.group()
        depth += (mark in "{[") - (mark in "}]")
        if depth == 0:
            return token.end()
    return None


def _records_of(file: IO[str]) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    text, at, exhausted = "", 0, False

    def read_more() -> None:
        nonlocal text, at, exhausted
        chunk = file.read(_CHUNK)
        exhausted = not chunk
        text, at = text[at:] + chunk, 0

    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            if exhausted:
                return
            read_more()
            continue
        try:
            value, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            following = _START.search(text, at + 1)
            stop = following.start() if following else len(text)
            end = _end_of_object(text, at, stop) if text[at] == "{" else None
            too_long = len(text) - at > _LARGEST_RECORD
            if end is None and not following and not exhausted and not too_long:
                read_more()  # cut by the chunk, most likely
                continue
            yield DamagedRecord(text[at : at + 200])
            at = end or stop
            continue
        if end == len(text) and not exhausted and not isinstance(value, dict):
            read_more()  # a number may go on in the next chunk
            continue
        yield value
        at = end


def iterate_records(path: str, storage_options: dict[str, Any] | None = None) -> Iterator[Any]:
    """Yields each element of a JSON array or each line of JSON lines, and a :class:`DamagedRecord` for a broken one.

    Args:
        path: a local path or any fsspec URL; ``.gz``, ``.bz2`` and ``.xz`` are unpacked as they are read.
        storage_options: for fsspec, such as a token.

    Invalid UTF-8 is read as U+FFFD, which the caller recognizes.
    """
    with fsspec.open(path, "rb", compression="infer", **(storage_options or {})) as file:
        yield from _records_of(io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace"))
