"""Shards as random-access files: how many records they hold, and any run of them, from a local path or a URL."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from dataset_scripts.schema import FEATURES

_COLUMNS = list(FEATURES)


@dataclass(frozen=True)
class ShardPath:
    """One parquet or tar file of the schema."""

    path: str
    records: int
    storage_options: tuple[tuple[str, Any], ...] = field(default=(), repr=False, compare=False)

    def read(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Rows ``start`` to ``stop``, with ``image`` still encoded."""
        reader = _read_tar if self.path.endswith(".tar") else _read_parquet
        return reader(self, start, stop)


@lru_cache(maxsize=4)  # neighbouring reads are of one shard; by process, because a fork would share the file's offset
def _open_parquet(shard: ShardPath, process: int) -> pq.ParquetFile:
    file = fsspec.open(shard.path, "rb", **dict(shard.storage_options)).open()
    parquet = pq.ParquetFile(file)
    missing = set(_COLUMNS) - set(parquet.schema_arrow.names)
    if missing:
        raise ValueError(
            f"{shard.path} lacks the columns {sorted(missing)}; it must be of the schema in dataset_scripts/schema.py. "
            "python -m dataset_scripts.own_data converts other data sets."
        )
    return parquet


def _read_parquet(shard: ShardPath, start: int, stop: int) -> Iterator[dict[str, Any]]:
    parquet = _open_parquet(shard, os.getpid())
    first = 0
    for group in range(parquet.num_row_groups):
        size = parquet.metadata.row_group(group).num_rows
        if first < stop and first + size > start:
            table = parquet.read_row_group(group, columns=_COLUMNS, use_threads=False)
            offset = max(start - first, 0)
            yield from table.slice(offset, min(stop - first, size) - offset).to_pylist()
        first += size


@lru_cache(maxsize=4)
def _open_tar(shard: ShardPath, process: int) -> tuple[Any, list[dict[str, tuple[int, int]]]]:
    """The open file and, by sample, offset and size of each field."""
    file = fsspec.open(shard.path, "rb", **dict(shard.storage_options)).open()
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(fileobj=file) as tar:
            for member in tar:
                key, _, name = member.name.partition(".")
                if member.isfile():
                    samples.setdefault(key, {})[name] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ValueError(f"{shard.path} is cut or damaged ({error}); write or fetch it again") from error
    lacking = [key for key, fields in samples.items() if not {"jpg", "json"} <= set(fields)]
    if lacking:
        raise ValueError(f"{shard.path} has samples without .jpg or .json, such as {lacking[0]!r}; convert it first")
    return file, list(samples.values())


def _read_tar(shard: ShardPath, start: int, stop: int) -> Iterator[dict[str, Any]]:
    file, samples = _open_tar(shard, os.getpid())
    for fields in samples[start:stop]:
        data = {}
        for name in ("json", "jpg"):
            offset, size = fields[name]
            file.seek(offset)
            data[name] = file.read(size)
        yield {**json.loads(data["json"]), "image": {"path": None, "bytes": data["jpg"]}}


def _count(shard: ShardPath) -> int:
    if shard.path.endswith(".tar"):
        return len(_open_tar(shard, os.getpid())[1])
    return _open_parquet(shard, os.getpid()).metadata.num_rows


def find_shards(root: str, split: str, storage_options: dict[str, Any] | None = None) -> list[ShardPath]:
    """The shards of a split under a folder or URL; empty if there are none.

    Counts come from the manifest that the conversion wrote, else from the files themselves.

    Raises:
        ValueError: shards are there, but none of this split, or the manifest names one that is not.
    """
    options = storage_options or {}
    filesystem, base = fsspec.core.url_to_fs(root, **options)
    base = base.rstrip("/")
    pattern = [f"{base}/{sub}*.{suffix}" for sub in ("", "data/") for suffix in ("parquet", "tar")]
    paths = sorted(path for glob in pattern for path in filesystem.glob(glob))
    if not paths:
        return []
    own = [path for path in paths if PurePosixPath(path).name.startswith(f"{split}-")]
    if not own:
        names = sorted({PurePosixPath(path).name.rpartition("-")[0] for path in paths})
        raise ValueError(f"{root} has no shards of the split {split!r}; it has those of {', '.join(names)}")
    counts: dict[str, int] = {}
    for folder in {str(PurePosixPath(path).parent) for path in own}:
        if filesystem.exists(manifest := f"{folder}/{split}-manifest.json"):
            listed = json.loads(filesystem.cat_file(manifest))["shards"]
            counts |= {f"{folder}/{shard['file']}": shard["records"] for shard in listed}
            if absent := sorted(set(counts) - set(own)):
                raise ValueError(f"{manifest} names {absent[0]}, which is not there; copy or convert it again")
    frozen = tuple(options.items())
    shards = [ShardPath(filesystem.unstrip_protocol(path), counts.get(path, -1), frozen) for path in own]
    unknown = [shard for shard in shards if shard.records < 0]
    if unknown:
        with ThreadPoolExecutor(16) as pool:
            found = dict(zip(unknown, tqdm(pool.map(_count, unknown), "counting", len(unknown)), strict=True))
        shards = [ShardPath(s.path, found[s], frozen) if s in found else s for s in shards]
    return [shard for shard in shards if shard.records]
