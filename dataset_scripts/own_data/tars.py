"""Other people's WebDataset tars: an image and its texts under one key."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.image_sources import TarImages
from dataset_scripts.own_data.mapping import Columns, draft_from_row, fingerprint_files
from dataset_scripts.report import Report
from dataset_scripts.tar_files import whole_members

_IMAGES = {"jpg", "jpeg", "png", "webp"}
_TEXTS = {"txt", "json", "cls", "caption"}


def _samples(path: Path, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key, and per field the text, or for an image its place in the tar; samples before a cut are kept."""
    sample: dict[str, Any] = {}
    current = None
    try:
        with open(path, "rb") as file:
            for tar, member in whole_members(file):
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, kind = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if key != current and sample:
                    yield current or "", sample
                    sample = {}
                current, kind = key, kind.lower()
                if kind in _IMAGES:
                    sample["image"] = f"{path.name}:{member.offset_data}:{member.size}"
                elif kind in _TEXTS:
                    text = tar.extractfile(member).read().decode("utf-8", "replace")  # type: ignore[union-attr]
                    try:
                        sample[kind] = json.loads(text) if kind == "json" else text
                    except (ValueError, RecursionError):
                        report.bad("record is no valid JSON", f"{path.name} {key}", text)
    except (tarfile.TarError, EOFError, OSError) as error:
        report.bad("shard is cut or damaged", path.name, error)
    if sample:
        yield current or "", sample


def webdataset_source(folder: Path, columns: Columns) -> Source:
    """Uncompressed tars, such as img2dataset writes them.

    Args:
        folder: with ``*.tar``.
        columns: fields are named by their suffix: ``txt``, or ``json.caption``. ``image`` needs no name.

    Raises:
        ValueError: there is no tar, or one is compressed.
    """
    tars = sorted(folder.glob("*.tar"))
    if not tars:
        packed = [path.name for path in folder.glob("*.tar.*")]
        raise ValueError(f"{folder} has no *.tar" + (f"; unpack {packed[0]} first" if packed else ""))

    def drafts(report: Report) -> Iterator[Draft]:
        for path in tars:
            for key, sample in _samples(path, report):
                report.keep("records read")
                if "image" not in sample:
                    report.bad("sample without an image", f"{path.name} {key}")
                    continue
                draft, where = None, f"{path.name} {key}"
                with report.entry(where):
                    draft = draft_from_row(sample, columns, sample["image"], f"{path.stem}/{key}", where, report)
                if draft is not None:
                    yield draft

    size = sum(path.stat().st_size for path in tars)
    return Source(folder.name, fingerprint_files([folder], columns), drafts, TarImages(folder), size // 50 + 1)
