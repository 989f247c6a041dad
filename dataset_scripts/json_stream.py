"""Reads the objects of a JSON array, or of JSON lines, one after the other in constant memory.

A streaming parser such as ijson does the same, but ends at the first fault. Annotation files of several GB do hold a
cut or damaged record; here the standard library's parser is run record by record, so that one such record is
reported and reading goes on behind it.
"""

from __future__ import annotations

import codecs
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
# A string that is not closed is one token as well: else each quote in it would be tried up to the end again.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)


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
        except (ValueError, RecursionError):  # an integer of 5,000 digits is a plain ValueError
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


def text_encoding(head: bytes, encoding: str | None = None) -> str:
    """The encoding of a text file: the given one, else what its byte-order mark says, else UTF-8.

    Args:
        head: its first bytes.
        encoding: by name, such as ``"cp1252"``.

    Raises:
        ValueError: an unknown encoding.
    """
    if encoding is not None:
        try:
            return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        except LookupError:
            raise ValueError(
                f"encoding is {encoding!r}; it must be one that Python knows, such as utf-8 or cp1252"
            ) from None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def open_text(file: IO[bytes], encoding: str | None = None) -> IO[str]:
    """A binary file as text, without byte-order mark and with line ends as they are; broken bytes become U+FFFD."""
    head = file.read(4)
    file.seek(0)
    return io.TextIOWrapper(file, encoding=text_encoding(head, encoding), errors="replace", newline="")


def iterate_records(
    path: str, storage_options: dict[str, Any] | None = None, encoding: str | None = None
) -> Iterator[Any]:
    """Yields each element of a JSON array or each line of JSON lines, and a :class:`DamagedRecord` for a broken one.

    Args:
        path: a local path or any fsspec URL; ``.gz``, ``.bz2`` and ``.xz`` are unpacked as they are read.
        storage_options: for fsspec, such as a token.
        encoding: of the file; None: UTF-8, or UTF-16 where a byte-order mark says so.

    Broken bytes are read as U+FFFD, which the caller recognizes.
    """
    with fsspec.open(path, "rb", compression="infer", **(storage_options or {})) as file:
        yield from _records_of(open_text(file, encoding))
