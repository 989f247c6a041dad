"""Trainable shards: parquet or WebDataset files of the one schema, written whole or not at all, and their manifest."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_scripts.atomic import replacing, write_json
from dataset_scripts.images import as_jpeg
from dataset_scripts.paths import checked_relative
from dataset_scripts.schema import FEATURES
from modeling_fgclip.pixels import to_rgb

ShardFormat = Literal["parquet", "webdataset"]
_SUFFIX: dict[str, str] = {"parquet": "parquet", "webdataset": "tar"}
_ROW_GROUP = 100  # records; what a reader of parquet holds in memory at once


@dataclass(frozen=True)
class ShardInfo:
    """One line of the manifest."""

    file: str
    records: int
    regions: int
    negatives: int
    bytes: int
    sha256: str


class _Body(Protocol):
    def add(self, record: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class _Parquet:
    def __init__(self, path: Path) -> None:
        # Pages cut by content let the Hub store only what changed between two versions.
        self._writer = pq.ParquetWriter(
            path, FEATURES.arrow_schema, use_content_defined_chunking=True, write_page_checksum=True
        )
        self._rows: list[dict[str, Any]] = []

    def add(self, record: dict[str, Any]) -> None:
        self._rows.append(record)
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=FEATURES.arrow_schema))
            self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


def _as_jpeg(data: bytes) -> bytes:
    """WebDataset names a field by its extension, and a column of ``datasets`` is one field: so all images are JPEG."""
    return data if data[:2] == b"\xff\xd8" else as_jpeg(to_rgb(data))


class _Tar:
    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (closed in close)
        self._count = 0

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)  # no times, no owners: equal records give equal bytes
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def add(self, record: dict[str, Any]) -> None:
        key = f"{self._count:06d}"
        rest = {name: value for name, value in record.items() if name != "image"}
        self._member(f"{key}.jpg", _as_jpeg(record["image"]["bytes"]))
        self._member(f"{key}.json", json.dumps(rest, ensure_ascii=False).encode())
        self._count += 1

    def close(self) -> None:
        self._tar.close()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class ShardFile:
    """One shard being written; it appears under its name only when it is complete and on disk.

    Args:
        folder: where the shards lie.
        name: without suffix, such as ``train-00000``.
        shard_format: ``"parquet"`` or ``"webdataset"``.
    """

    def __init__(self, folder: Path, name: str, shard_format: ShardFormat) -> None:
        if shard_format not in _SUFFIX:
            raise ValueError(f"shard format is {shard_format!r}; it must be one of {sorted(_SUFFIX)}")
        self.path = folder / f"{name}.{_SUFFIX[shard_format]}"
        self._replacing = ExitStack()
        self._part = self._replacing.enter_context(replacing(self.path))
        self._body: _Body = (_Parquet if shard_format == "parquet" else _Tar)(self._part)
        self.records = self._regions = self._negatives = 0

    def add(self, record: dict[str, Any]) -> None:
        """Appends a record whose ``image`` is ``{"path": …, "bytes": …}``."""
        self._body.add(record)
        self.records += 1
        self._regions += len(record["regions"])
        self._negatives += sum(len(region["negatives"]) for region in record["regions"])

    def close(self) -> ShardInfo:
        """Completes the shard and describes it."""
        with self._replacing:
            self._body.close()
            digest = _sha256(self._part)
        size = self.path.stat().st_size
        return ShardInfo(self.path.name, self.records, self._regions, self._negatives, size, digest)


def manifest_path(folder: Path, split: str) -> Path:
    """Where the manifest of a split lies."""
    return folder / f"{split}-manifest.json"


def write_manifest(folder: Path, split: str, shards: list[ShardInfo], **about: Any) -> None:
    """Lists the shards of a split with counts and checksums, beside whatever else is known about them."""
    totals = {
        name: sum(getattr(shard, name) for shard in shards) for name in ("records", "regions", "negatives", "bytes")
    }
    content = {"split": split, "totals": totals, **about, "shards": [asdict(shard) for shard in shards]}
    write_json(manifest_path(folder, split), content)


def parse_manifest(data: bytes, where: str) -> dict[str, Any]:
    """A manifest as :func:`write_manifest` wrote it.

    Raises:
        ValueError: it is none; names ``where`` and the entry.
    """
    try:
        content = json.loads(data)
        for shard in content["shards"]:
            info = ShardInfo(**shard)
            if checked_relative(info.file) != info.file or "/" in info.file or min(info.records, info.bytes) < 0:
                raise ValueError(f"it lists {shard}")
            info.sha256.encode("ascii")
        if not isinstance(content["split"], str) or not isinstance(content["totals"], dict):
            raise ValueError("its split is no text, or its totals are no object")
    except Exception as error:  # nobody knows what a foreign file makes this raise
        raise ValueError(
            f"{where} is no manifest of shards ({type(error).__name__}: {error}); it lists each shard's "
            f"{', '.join(ShardInfo.__dataclass_fields__)}. Convert or fetch the data set again."
        ) from None
    return content


def read_manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """Manifest by split; empty where nothing was written by this package.

    Raises:
        ValueError: a file is no manifest.
    """
    manifests = [parse_manifest(path.read_bytes(), str(path)) for path in sorted(folder.glob("*-manifest.json"))]
    return {manifest["split"]: manifest for manifest in manifests}


def damaged_shards(folder: Path) -> list[str]:
    """Names of shards whose bytes are not those of their manifest, or that are gone."""
    return [
        shard["file"]
        for manifest in read_manifests(folder).values()
        for shard in manifest["shards"]
        if not (folder / shard["file"]).is_file() or _sha256(folder / shard["file"]) != shard["sha256"]
    ]
