"""Which URL belongs to which ``f_path``: the published ``url2key_jsons`` and URL lists, joined in a file on disk."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow.parquet as pq

from dataset_scripts.paths import PUBLISHED_PREFIX
from dataset_scripts.progress import progress_bar
from dataset_scripts.records import clean_text
from dataset_scripts.report import Fault, Report

_CHUNK = 1 << 20  # characters
_LARGEST_PAIR = 4 << 20  # characters
_BETWEEN = re.compile(r"[\s,]*")
_COLON = re.compile(r"\s*:\s*")
_FOLDER = re.compile(r"coyo_image_\d+")


def join_key(path: str) -> str:
    """What both sides of the join agree on: an image's path without the published prefix and its suffix."""
    path = path.removeprefix(PUBLISHED_PREFIX)
    return path[: -len(suffix)] if (suffix := PurePosixPath(path).suffix) else path


def iterate_pairs(path: str, storage_options: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
    """The entries of one large JSON object, in constant memory.

    Raises:
        ValueError: the file is no JSON object, or is cut.
    """
    decoder = json.JSONDecoder()
    with fsspec.open(path, "rb", compression="infer", **(storage_options or {})) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace")
        text = file.read(_CHUNK).lstrip()
        if not text.startswith("{"):
            raise ValueError(f"{path} is no JSON object of URL to key; it begins {text[:40]!r}")
        at = 1
        while True:
            at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
            if text.startswith("}", at):
                return
            try:
                name, end = decoder.raw_decode(text, at)
                value, end = decoder.raw_decode(text, _COLON.match(text, end).end())  # type: ignore[union-attr]
                if end == len(text):  # a number may go on
                    raise json.JSONDecodeError("more to come", "", 0)
            except (ValueError, RecursionError, AttributeError) as error:
                more = file.read(_CHUNK) if len(text) - at < _LARGEST_PAIR else ""
                if not more:
                    raise ValueError(f"{path} is cut or damaged at {text[at : at + 80]!r}; fetch it again") from error
                text, at = text[at:] + more, 0
                continue
            yield name, value
            at = end


class UrlIndex:
    """URL by image, in an SQLite file, so that memory does not grow with the number of images.

    Values of ``url2key_coyo_image_N.json`` may be whole paths (``coyo_image_N/00000/000000012``, with or without
    prefix and suffix) or bare keys (``000000012``). A bare key is completed by the URL list the URL stands in:
    ``coyo_image_N/00000.parquet`` → ``coyo_image_N/00000/000000012``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE IF NOT EXISTS urls(key TEXT PRIMARY KEY, url TEXT) WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS bare(url TEXT, folder TEXT, key TEXT, PRIMARY KEY(url, folder)) WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS done(file TEXT PRIMARY KEY) WITHOUT ROWID;"
        )

    def __reduce__(self) -> tuple:
        return UrlIndex, (self._path,)  # every process opens the file for itself

    def __len__(self) -> int:
        return self._connection.execute("SELECT count(*) FROM urls").fetchone()[0]

    def url(self, path: str) -> str | None:
        """The URL of an image given by ``f_path`` or its path below the image root."""
        with self._lock:
            row = self._connection.execute("SELECT url FROM urls WHERE key = ?", (join_key(path),)).fetchone()
        return row[0] if row else None

    def _is_done(self, file: str) -> bool:
        return self._connection.execute("SELECT 1 FROM done WHERE file = ?", (file,)).fetchone() is not None

    def _mark_done(self, file: str) -> None:
        self._connection.execute("INSERT INTO done VALUES (?)", (file,))
        self._connection.commit()

    def _add_keys(self, path: str, storage_options: dict, report: Report) -> None:
        folder = match.group() if (match := _FOLDER.search(PurePosixPath(path).name)) else ""
        for url, key in progress_bar(iterate_pairs(path, storage_options), desc=PurePosixPath(path).name, unit="URL"):
            key = clean_text(key, "key of a URL", path, report)
            url = clean_text(url, "URL", path, report)
            if key is None or url is None:
                continue
            if "/" in key or not folder:
                whole = join_key(key)
                whole = whole if _FOLDER.match(whole) or not folder else f"{folder}/{whole}"
                self._connection.execute("INSERT OR IGNORE INTO urls VALUES (?, ?)", (whole, url))
            else:
                self._connection.execute("INSERT OR IGNORE INTO bare VALUES (?, ?, ?)", (url, folder, join_key(key)))
            report.keep("URLs with a key")

    def _add_list(self, path: str, storage_options: dict, report: Report) -> None:
        folder, part = PurePosixPath(path).parent.name, PurePosixPath(path).stem
        with fsspec.open(path, "rb", **storage_options) as file:
            parquet = pq.ParquetFile(file)
            names = {name.lower(): name for name in parquet.schema_arrow.names}
            if "url" not in names:
                report.bad("URL list without a column url", path, parquet.schema_arrow.names)
                return
            for batch in parquet.iter_batches(columns=[names["url"]]):
                urls = [url for url in batch.column(0).to_pylist() if url]
                report.keep("URLs listed", len(urls))
                for url in urls:
                    self._connection.execute(
                        "INSERT OR IGNORE INTO urls SELECT ? || key, url FROM bare WHERE url = ? AND folder = ?",
                        (f"{folder}/{part}/", url, folder),
                    )

    def build(self, root: str, report: Report, storage_options: dict[str, Any] | None = None) -> UrlIndex:
        """Reads what is not yet in the index of ``root/url2key_jsons`` and ``root/coyo_image_*/*.parquet``."""
        options = storage_options or {}
        filesystem, base = fsspec.core.url_to_fs(root, **options)
        for pattern, add in (("url2key_jsons/*.json*", self._add_keys), ("coyo_image_*/*.parquet", self._add_list)):
            for path in sorted(filesystem.glob(f"{base.rstrip('/')}/{pattern}")):
                if self._is_done(path):
                    continue
                try:
                    add(filesystem.unstrip_protocol(path), options, report)
                except Exception as error:
                    if isinstance(error, Fault | sqlite3.Error) or getattr(error, "errno", None) is not None:
                        raise  # of this disk or the way to the file, and not of its contents
                    report.bad("list of URLs is cut or damaged", PurePosixPath(path).name, error)
                else:
                    self._mark_done(path)
        return self
