"""Where images come from: a folder of images, parquet, WebDataset tars, or FineHARD's published layout.

The input is cut into units of one shard each, once, before anything runs; a unit can then be read by any process.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dataset_scripts.images import BadImage, check_image
from dataset_scripts.json_stream import DamagedRecord, iterate_records
from dataset_scripts.paths import UnsafePath, image_path
from dataset_scripts.records import clean_record, clean_texts
from dataset_scripts.report import Report

KINDS = ("auto", "images", "parquet", "webdataset", "finehard")
MAX_BYTES = 200_000_000  # of one member of a tar file; more is no photograph
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass
class InputSettings:
    """What the input is and how its columns are called.

    `columns` gives for image, caption, short_captions, source_id and regions the name in a parquet file; alt text is a
    short caption. `limit` reads only the first so many records.
    """

    kind: str = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"input.kind is {self.kind!r}; it must be one of {', '.join(KINDS)}.")
        unknown = set(self.columns) - {"image", "caption", "short_captions", "source_id", "regions"}
        if unknown:
            raise ValueError(f"input.columns names {sorted(unknown)}, which a record does not have.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"input.limit is {self.limit}; it must be 1 or more records.")


def plan_units(root: str | Path, settings: InputSettings, shard_size: int) -> list[dict[str, Any]]:
    """The units of the input, in a fixed order: {"kind", "path" or "paths", "start", "stop"}; JSON-ready.

    Raises:
        ValueError: `root` does not exist or holds nothing of the kind.
    """
    root = Path(root).resolve()
    if not root.exists():
        raise ValueError(f"The input {root} does not exist.")
    kind = settings.kind if settings.kind != "auto" else _guess(root)
    files = _files(root, kind)
    if not files:
        raise ValueError(
            f"The input {root} holds nothing to read as {kind!r}; set input.kind if it is something else."
        )
    left = settings.limit if settings.limit is not None else float("inf")
    units: list[dict[str, Any]] = []
    if kind == "images":
        files = files[: int(min(left, len(files)))]
        parts = [files[i : i + shard_size] for i in range(0, len(files), shard_size)]
        return [{"kind": kind, "root": str(root), "paths": [str(p.relative_to(root)) for p in part]} for part in parts]
    for path in files:
        if left <= 0:
            break
        number = int(min(_count(path, kind), left))
        left -= number
        for start in range(0, number, shard_size):
            stop = min(start + shard_size, number)
            units.append({"kind": kind, "root": str(root), "path": str(path), "start": start, "stop": stop})
    return units


def read_unit(unit: dict[str, Any], settings: InputSettings, report: Report) -> Iterator[dict[str, Any]]:
    """Records of one unit with checked image bytes; what cannot be used is counted in `report`."""
    read = {"images": _read_images, "parquet": _read_parquet, "webdataset": _read_tar, "finehard": _read_finehard}
    yield from read[unit["kind"]](unit, settings, report)


def unit_size(unit: dict[str, Any]) -> int:
    """Records of a unit before any is left out."""
    return len(unit["paths"]) if "paths" in unit else unit["stop"] - unit["start"]


def _guess(root: Path) -> str:
    if (root / "jsonfiles").is_dir():
        return "finehard"
    for kind in ("parquet", "webdataset", "images"):
        if _files(root, kind):
            return kind
    raise ValueError(
        f"The input {root} has neither jsonfiles/ (FineHARD's layout), nor .parquet, .tar or image files in it."
    )


def _files(root: Path, kind: str) -> list[Path]:
    if kind == "finehard":
        return sorted(p for p in (root / "jsonfiles").glob("*.json*") if p.is_file())
    suffixes = {"parquet": (".parquet",), "webdataset": (".tar",), "images": IMAGE_SUFFIXES}[kind]
    files = [root] if root.is_file() else root.rglob("*")
    return sorted(p for p in files if p.suffix.lower() in suffixes and p.is_file())


def _count(path: Path, kind: str) -> int:
    if kind == "parquet":
        return pq.ParquetFile(path).metadata.num_rows
    if kind == "finehard":
        return sum(1 for _ in iterate_records(str(path)))
    with tarfile.open(path) as tar:
        return sum(1 for member in tar if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES)


def _record(data: bytes, source_id: str, where: str, report: Report, **fields: Any) -> dict[str, Any] | None:
    """A record around checked image bytes, or None with the reason counted."""
    report.keep("records read")
    try:
        image = check_image(data)
    except BadImage as error:
        report.bad(error.reason, where, error)
        return None
    report.keep("records kept")
    empty = {"caption": None, "short_captions": [], "regions": []}
    return {"image": {"bytes": image.data, "path": None}, "source_id": source_id, **empty, **fields}


def _read_images(unit: dict[str, Any], settings: InputSettings, report: Report) -> Iterator[dict[str, Any]]:
    """Files, with the alt text in NAME.txt beside them where there is one (img2dataset's `files` format)."""
    root = Path(unit["root"]) if Path(unit["root"]).is_dir() else Path(unit["root"]).parent
    for name in unit["paths"]:
        path = root / name
        side = path.with_suffix(".txt")
        text = side.read_text(encoding="utf-8", errors="replace").strip() if side.is_file() else None
        record = _record(path.read_bytes(), name, name, report, short_captions=[text] if text else [])
        if record is not None:
            yield record


def _read_parquet(unit: dict[str, Any], settings: InputSettings, report: Report) -> Iterator[dict[str, Any]]:
    names = {
        key: settings.columns.get(key, key) for key in ("image", "caption", "short_captions", "source_id", "regions")
    }
    file = pq.ParquetFile(unit["path"])
    present = set(file.schema_arrow.names)
    missing = [names[key] for key in settings.columns if names[key] not in present] + [
        names["image"] for _ in (1,) if names["image"] not in present
    ]
    if missing:
        raise ValueError(
            f"{unit['path']} has the columns {sorted(present)}, but not {sorted(set(missing))}; set input.columns."
        )
    wanted = [name for name in names.values() if name in present]
    position = unit["start"]
    for row in _rows(file, wanted, unit["start"], unit["stop"]):
        where = f"{Path(unit['path']).name}[{position}]"
        fields = {key: row[names[key]] for key in ("caption", "short_captions", "regions") if names[key] in row}
        fields["regions"] = fields.get("regions") or []
        fields["short_captions"] = clean_texts(fields.get("short_captions"), "short caption", where, report)
        identity = row.get(names["source_id"])
        image = row[names["image"]]
        data = image["bytes"] if isinstance(image, dict) else image
        record = _record(data or b"", str(identity) if identity is not None else where, where, report, **fields)
        position += 1
        if record is not None:
            yield record


def _rows(file: pq.ParquetFile, columns: list[str], start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Rows [start, stop), reading only the row groups that hold them."""
    offset = 0
    for group in range(file.num_row_groups):
        number = file.metadata.row_group(group).num_rows
        low, high = max(start - offset, 0), min(stop - offset, number)
        if low < high:
            yield from file.read_row_group(group, columns=columns).slice(low, high - low).to_pylist()
        offset += number


def _read_tar(unit: dict[str, Any], settings: InputSettings, report: Report) -> Iterator[dict[str, Any]]:
    """WebDataset: members that share a name up to the first dot are one sample; .txt is the alt text."""
    name = Path(unit["path"]).stem

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        key, sample = None, {}
        with tarfile.open(unit["path"]) as tar:
            for member in tar:
                if not member.isfile() or member.size > MAX_BYTES:
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                member_key = f"{folder}/{stem}" if folder else stem
                if member_key != key:
                    if any(f".{s}" in IMAGE_SUFFIXES for s in sample):
                        yield key, sample
                    key, sample = member_key, {}
                if f".{suffix.lower()}" in (*IMAGE_SUFFIXES, ".txt"):
                    sample[suffix.lower()] = tar.extractfile(member).read()
        if any(f".{s}" in IMAGE_SUFFIXES for s in sample):
            yield key, sample

    for key, sample in islice(samples(), unit["start"], unit["stop"]):
        data = next(value for suffix, value in sample.items() if suffix != "txt")
        text = sample.get("txt", b"").decode("utf-8", "replace").strip()
        record = _record(data, f"{name}/{key}", f"{name}/{key}", report, short_captions=[text] if text else [])
        if record is not None:
            yield record


def _read_finehard(unit: dict[str, Any], settings: InputSettings, report: Report) -> Iterator[dict[str, Any]]:
    images = Path(unit["root"]) / "images"
    for number, entry in enumerate(islice(iterate_records(unit["path"]), unit["start"], unit["stop"]), unit["start"]):
        where = f"{Path(unit['path']).name}[{number}]"
        if isinstance(entry, DamagedRecord) or not isinstance(entry, dict):
            report.bad("record is no valid JSON object", where, entry)
            continue
        try:
            source_id = image_path(entry.get("f_path"))
            data = (images / source_id).read_bytes()
        except UnsafePath as error:
            report.bad("path leaves its root", where, error)
            continue
        except OSError:
            report.missing("image file is missing or may not be read", f"{where} {source_id}")
            continue
        fields = clean_record(entry, source_id, report)
        if fields is None:
            continue
        del fields["source_id"]
        record = _record(data, source_id, f"{where} {source_id}", report, **fields)
        if record is not None:
            yield record
