"""Images by way of their URL: fetched, or found in what img2dataset fetched before."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from dataset_scripts.download import Downloader, DownloadSettings
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.image_stores import FolderImages, MissingImage, TarImages
from dataset_scripts.paths import IMAGE_SUFFIXES
from dataset_scripts.progress import progress_bar
from dataset_scripts.report import Report
from dataset_scripts.tar_files import tar_samples
from dataset_scripts.url_index import UrlIndex


@dataclass
class UrlImages:
    """Fetches the image whose URL the index knows."""

    index: UrlIndex
    downloader: Downloader
    readers: int = 32  # most of them wait for an answer

    def read(self, image: str) -> bytes:
        url = self.index.url(image)
        if url is None:
            raise MissingImage("image has no URL")
        return self.downloader.fetch(url)

    def forget(self, image: str) -> None:
        """Drops the bytes from the downloader's cache, once they are in a shard."""
        if (url := self.index.url(image)) is not None:
            self.downloader.forget(url)


def fetched_images(root: str, cache: Path, limits: DownloadSettings, storage_options: dict[str, Any]) -> UrlImages:
    """Images of the published layout at ``root`` by URL; images and an index of URLs stay in ``cache`` for all processes.

    Raises:
        ValueError: the layout names no URLs.
    """
    filesystem, base = fsspec.core.url_to_fs(root, **storage_options)
    lists = f"{base.rstrip('/')}/url2key_jsons"
    if not filesystem.isdir(lists):
        raise ValueError(f"{root} names no URLs: url2key_jsons/ is not there; images cannot be fetched")
    cache.mkdir(parents=True, exist_ok=True)
    state = fingerprint(filesystem.unstrip_protocol(lists), storage_options)
    with FileLock(cache / f"{state}.lock"):
        index = UrlIndex(cache / f"{state}.sqlite").build(root, Report(), storage_options)
    return UrlImages(index, Downloader(limits, cache / "images"))


class Img2DatasetImages:
    """What img2dataset left under ``root``, in its output formats ``files`` and ``webdataset``, found by URL.

    img2dataset numbers images as they come in; only the sidecars know which URL an image is of. They are read once
    into ``index_file``.
    """

    readers = 4

    def __init__(self, root: Path, urls: UrlIndex, index_file: Path, report: Report) -> None:
        self._urls = urls
        self._files, self._tars = FolderImages(str(root)), TarImages(root)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(index_file, check_same_thread=False)
        self._connection.execute("CREATE TABLE IF NOT EXISTS found(url TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._index(root, report)

    def _index(self, root: Path, report: Report) -> None:
        sidecars = sorted(root.rglob("*.parquet"))
        if not sidecars and not any(root.rglob("*.json")):
            raise ValueError(f"{root} holds no output of img2dataset: neither .parquet nor .json sidecars")
        for sidecar in progress_bar(sidecars, desc="img2dataset sidecars", unit="file"):
            where = str(sidecar.relative_to(root))
            try:
                names = pq.read_schema(sidecar).names
                if not {"url", "key", "status"} <= set(names):
                    report.bad("sidecar without the columns url, key and status", where, names)
                    continue
                table = pq.read_table(sidecar, columns=["url", "key", "status"]).to_pylist()
            except pa.ArrowInvalid as error:  # img2dataset was killed while it wrote
                report.bad("sidecar is cut or damaged", where, error)
                continue
            urls = {row["key"]: row["url"] for row in table if row["status"] == "success"}
            self._add(root, sidecar.with_suffix(""), urls, report)
        if not sidecars:
            for sidecar in progress_bar(root.rglob("*.json"), desc="img2dataset sidecars", unit="file"):
                where = str(sidecar.relative_to(root))
                try:
                    content = json.loads(sidecar.read_text(encoding="utf-8"))
                except ValueError as error:
                    report.bad("sidecar is cut or damaged", where, error)
                    continue
                if not isinstance(content, dict):
                    report.bad("sidecar is no object", where, content)
                elif content.get("status") == "success" and "url" in content:  # others are statistics of a shard
                    self._add(root, sidecar.parent, {sidecar.stem: content["url"]}, report)
        self._connection.commit()

    def _add(self, root: Path, shard: Path, urls: dict[str, str], report: Report) -> None:
        """``shard`` is a folder of images, or the name without suffix of a tar file of them."""
        places = {}
        if shard.is_dir():
            for key in urls:
                for suffix in IMAGE_SUFFIXES:
                    if (path := shard / f"{key}.{suffix}").is_file():
                        places[key] = path.relative_to(root).as_posix()
        elif (archive := shard.with_suffix(".tar")).is_file():
            name = archive.relative_to(root).as_posix()
            with open(archive, "rb") as file:
                for key, fields in tar_samples(file, name, report).items():
                    image = next((fields[field] for field in fields if field in IMAGE_SUFFIXES), None)
                    if image is not None:
                        places[key] = f"{name}:{image[0]}:{image[1]}"
        rows = [(urls[key], place) for key, place in places.items() if key in urls]
        self._connection.executemany("INSERT OR REPLACE INTO found VALUES (?, ?)", rows)

    def read(self, image: str) -> bytes:
        url = self._urls.url(image)
        with self._lock:
            row = self._connection.execute("SELECT place FROM found WHERE url = ?", (url,)).fetchone()
        if row is None:
            raise MissingImage("image is not among those of img2dataset")
        return (self._tars if ".tar:" in row[0] else self._files).read(row[0])
