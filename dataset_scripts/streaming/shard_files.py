"""Shards as random-access files: how many records they hold, and any run of them, from a local path or a URL."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_scripts.progress import progress_bar
from dataset_scripts.report import Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.shards import parse_manifest
from dataset_scripts.tar_files import Fields, tar_samples

_COLUMNS = [*FEATURES, "short_caption"]  # the last one of shards written before there was a list


class DamagedShard(ValueError):
    """A shard, or a part of it, cannot be read as what it is."""


@dataclass(frozen=True)
class StoredRow:
    """A row as its shard has it, not yet judged."""

    where: str  # shard and number of the row in it
    values: dict[str, Any]  # by column; ``image`` still encoded


@dataclass(frozen=True)
class LostRecord:
    """Stands for a record that its shard no longer gives."""

    where: str  # shard and number of the record in it
    reason: str
    known: bool  # since the shards were listed, see ShardPath.damage


@dataclass(frozen=True)
class ShardPath:
    """One parquet or tar file of the schema.

    Attributes:
        path: local path or URL.
        records: how many it has by its manifest, else by itself.
        storage_options: for fsspec.
        bytes: size of the file when it was listed; another file under the same name is not taken for this one.
        sha256: of its manifest, compared when a process first opens the file; empty: not compared.
        readable: how many from the first on can be read.
        damage: why these are fewer, and what was received; empty for a sound shard.
    """

    path: str
    records: int
    storage_options: tuple[tuple[str, Any], ...] = field(default=(), repr=False, compare=False)
    bytes: int | None = None
    sha256: str = ""
    readable: int | None = field(default=None, compare=False)
    damage: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    def read(self, start: int, stop: int) -> Iterator[StoredRow | LostRecord]:
        """Rows ``start`` to ``stop``; a lost one is given as such, never left out."""
        stop = min(stop, self.records)
        sound = stop if self.readable is None else min(stop, max(start, self.readable))
        reader = _read_tar if self.path.endswith(".tar") else _read_parquet
        if start < sound:
            try:
                _verify(self, os.getpid())
                yield from reader(self, start, sound)
            except DamagedShard as error:  # before the first row: it is another file, or does not open
                yield from self._lost(start, sound, str(error))
        yield from self._lost(sound, stop, self.damage, known=True)

    def _row(self, number: int, values: dict[str, Any]) -> StoredRow:
        return StoredRow(f"{self.name}[{number}]", values)

    def _lost(self, start: int, stop: int, reason: object, known: bool = False) -> Iterator[LostRecord]:
        for number in range(start, stop):
            yield LostRecord(f"{self.name}[{number}]", str(reason), known)


def _is_damage(error: Exception) -> bool:
    """Whether the bytes are at fault and not the way to them, such as a network that is down for a while.

    pyarrow tells of pages that do not unpack with a bare OSError without a number.
    """
    return isinstance(error, pa.ArrowException | UnicodeDecodeError) or (
        type(error) is OSError and error.errno is None
    )


@cache
def _digest(shard: ShardPath, process: int) -> str:
    """SHA-256 of the file, read once by a process."""
    digest = hashlib.sha256()
    with fsspec.open(shard.path, "rb", **dict(shard.storage_options)).open() as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _verify(shard: ShardPath, process: int) -> None:
    """Refuses a file that is not the one in the manifest. A cut one, which was counted when it was listed, may be read.

    Raises:
        DamagedShard: its SHA-256 is another one.
    """
    if shard.sha256 and not shard.damage and (found := _digest(shard, process)) != shard.sha256:
        raise DamagedShard(
            f"{shard.path} is not the file in its manifest (SHA-256 {found[:12]}…, written was {shard.sha256[:12]}…); "
            "write or fetch it again, or read it as it is with verify=False (--verify_shards False)"
        )


@lru_cache(maxsize=4)  # neighboring reads are of one shard; by process, because a fork would share the file's offset
def _open_parquet(shard: ShardPath, process: int) -> pq.ParquetFile:
    file = fsspec.open(shard.path, "rb", **dict(shard.storage_options)).open()
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
    except Exception as error:
        if not _is_damage(error):
            raise
        size = f", {shard.bytes:,} bytes" if shard.bytes is not None else ""
        raise DamagedShard(f"{shard.path} is cut or damaged ({error}{size}); write or fetch it again") from error
    if missing := _missing_columns(parquet.schema_arrow):
        raise ValueError(
            f"{shard.path} lacks the columns {sorted(missing)}; it must be of the schema in dataset_scripts/schema.py. "
            "python -m dataset_scripts.own_data converts other data sets."
        )
    return parquet


def _missing_columns(schema: pa.Schema) -> set[str]:
    """Columns of ours that a file lacks, those of a region among them; one with ``short_caption`` is an older one of ours."""
    missing = set(FEATURES) - set(schema.names)
    if "short_caption" in schema.names:
        missing -= {"short_captions"}
    if "regions" in schema.names:
        inner = getattr(schema.field("regions").type, "value_type", None)
        own = (
            [inner.field(index).name for index in range(inner.num_fields)] if isinstance(inner, pa.StructType) else []
        )
        missing |= {f"regions.{name}" for name in set(FEATURES["regions"].feature) - set(own)}
    return missing


def _read_parquet(shard: ShardPath, start: int, stop: int) -> Iterator[StoredRow | LostRecord]:
    parquet = _open_parquet(shard, os.getpid())
    columns = [name for name in _COLUMNS if name in parquet.schema_arrow.names]
    first = 0
    for group in range(parquet.num_row_groups):
        size = parquet.metadata.row_group(group).num_rows
        low, high = max(start, first), min(stop, first + size)
        if low < high:
            try:
                table = parquet.read_row_group(group, columns=columns, use_threads=False)
                rows = table.slice(low - first, high - low).to_pylist()
            except Exception as error:
                if not _is_damage(error):
                    raise
                yield from shard._lost(low, high, error)
            else:
                yield from map(shard._row, range(low, high), rows)
        first += size
    yield from shard._lost(max(start, first), stop, f"it holds {first} records")


@lru_cache(maxsize=4)
def _open_tar(shard: ShardPath, process: int) -> tuple[Any, list[Fields], str]:
    """The open file; by whole sample, the places of its fields; and what is damaged besides them."""
    file = fsspec.open(shard.path, "rb", **dict(shard.storage_options)).open()
    report = Report()
    samples = tar_samples(file, shard.name, report)
    whole = [fields for fields in samples.values() if {"jpg", "json"} <= set(fields)]
    damage = "; ".join(place for places in report.examples.values() for place in places[:3])
    if len(whole) < len(samples) and not damage:
        lacking = next(key for key, fields in samples.items() if not {"jpg", "json"} <= set(fields))
        raise ValueError(f"{shard.path} has samples without .jpg or .json, such as {lacking!r}; convert it first")
    if damage:
        damage = f"{shard.path} is cut or damaged ({damage}); {len(whole)} samples are whole; write or fetch it again"
    return file, whole, damage


def _read_tar(shard: ShardPath, start: int, stop: int) -> Iterator[StoredRow | LostRecord]:
    file, samples, damage = _open_tar(shard, os.getpid())
    for number in range(start, min(stop, len(samples))):
        data = {}
        for name in ("json", "jpg"):
            offset, size = samples[number][name]
            file.seek(offset)
            data[name] = file.read(size)
        try:
            row = {**json.loads(data["json"]), "image": {"path": None, "bytes": data["jpg"]}}
        except Exception as error:  # nobody knows what foreign bytes make the parser raise
            yield from shard._lost(number, number + 1, f"its .json is no JSON object ({error})")
        else:
            yield shard._row(number, row)
    yield from shard._lost(max(start, len(samples)), stop, damage or f"it holds {len(samples)} samples")


def _inspected(shard: ShardPath) -> ShardPath:
    """The shard as it is: records counted where no manifest did, and damage found by opening it."""
    try:
        if shard.path.endswith(".tar"):
            _, samples, damage = _open_tar(shard, os.getpid())
            found = len(samples)
        else:
            found, damage = _open_parquet(shard, os.getpid()).metadata.num_rows, ""
    except DamagedShard as error:
        found, damage = 0, str(error)
    if shard.records < 0:
        return replace(shard, records=found, readable=found, damage=damage)
    if found < shard.records and not damage:
        damage = f"{shard.path} holds fewer records than its manifest says; write or fetch it again"
    return replace(shard, readable=min(found, shard.records), damage=damage)


def find_shards(
    root: str, split: str, storage_options: dict[str, Any] | None = None, verify: bool = True
) -> list[ShardPath]:
    """The shards of a split under a folder or URL; empty if there are none.

    Counts come from the manifest that the conversion wrote, else from the files themselves. A file whose size is not
    that of the manifest is opened, to see how much of it can be read.

    Args:
        root, split, storage_options: where they are.
        verify: compare each file with the SHA-256 of its manifest when a process first opens it. A file that is another
            one counts as damaged.

    Raises:
        ValueError: shards are there, but none of this split, or the manifest names one that is not or is no manifest.
    """
    options = storage_options or {}
    filesystem, base = fsspec.core.url_to_fs(root, **options)
    base = base.rstrip("/")
    pattern = [f"{base}/{sub}*.{suffix}" for sub in ("", "data/") for suffix in ("parquet", "tar")]
    files = {path: info for glob in pattern for path, info in filesystem.glob(glob, detail=True).items()}
    if not files:
        return []
    own = sorted(path for path in files if PurePosixPath(path).name.startswith(f"{split}-"))
    if not own:
        names = sorted({PurePosixPath(path).name.rpartition("-")[0] for path in files})
        raise ValueError(f"{root} has no shards of the split {split!r}; it has those of {', '.join(names)}")
    listed: dict[str, dict[str, Any]] = {}
    for folder in {str(PurePosixPath(path).parent) for path in own}:
        if filesystem.exists(manifest := f"{folder}/{split}-manifest.json"):
            content = parse_manifest(filesystem.cat_file(manifest), manifest)["shards"]
            listed |= {f"{folder}/{shard['file']}": shard for shard in content}
            if absent := sorted(set(listed) - set(own)):
                raise ValueError(f"{manifest} names {absent[0]}, which is not there; copy or convert it again")

    frozen = tuple(options.items())
    shards, doubtful = {}, []
    for path in own:
        size, about = files[path].get("size"), listed.get(path, {"records": -1, "sha256": "", "bytes": None})
        digest = about["sha256"] if verify else ""
        shards[path] = ShardPath(filesystem.unstrip_protocol(path), about["records"], frozen, size, digest)
        if about["records"] < 0 or size not in (None, about["bytes"]):
            doubtful.append(path)
    if doubtful:
        with ThreadPoolExecutor(16) as pool:
            found = progress_bar(pool.map(_inspected, (shards[path] for path in doubtful)), "counting", len(doubtful))
            shards.update(zip(doubtful, found, strict=True))
    return [shard for shard in shards.values() if shard.records or shard.damage]
