"""Other people's WebDataset tars: an image and its texts under one key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.image_stores import TarImages
from dataset_scripts.own_data.columns import Columns
from dataset_scripts.own_data.mapping import draft_from_row, fingerprint_files
from dataset_scripts.paths import IMAGE_SUFFIXES
from dataset_scripts.report import Report
from dataset_scripts.tar_files import Fields, tar_samples


def _sample(file: IO[bytes], fields: Fields, wanted: set[str], where: str, report: Report) -> dict[str, Any]:
    """The texts of the wanted fields."""
    sample = {}
    for name in wanted & set(fields):
        offset, size = fields[name]
        file.seek(offset)
        text = file.read(size).decode("utf-8-sig", "replace")
        if name.rpartition(".")[2] == "json":
            with report.entry(where, "record is no valid JSON"):
                sample[name] = json.loads(text)
        else:
            sample[name] = text
    return sample


def _tar_drafts(path: Path, name: str, columns: Columns, report: Report) -> Iterator[Draft]:
    wanted = {part for column in columns.names() for part in (column, column.split(".")[0])}
    with open(path, "rb") as file:
        for key, fields in tar_samples(file, f"{name}.tar", report).items():
            where = f"{name}.tar {key}"
            report.keep("records read")
            images = [field for field in fields if field in IMAGE_SUFFIXES]
            if not images:
                report.bad("sample without an image", where)
                continue
            if len(images) > 1:
                report.bad("sample with several images", where, images)
            offset, size = fields[images[0]]
            draft = None
            with report.entry(where):
                sample = _sample(file, fields, wanted, where, report)
                draft = draft_from_row(sample, columns, f"{name}.tar:{offset}:{size}", f"{name}/{key}", where, report)
            if draft is not None:
                yield draft


def webdataset_source(folder: Path, columns: Columns | None = None) -> Source:
    """Uncompressed tars, such as img2dataset writes them.

    Args:
        folder: with ``*.tar``, also in folders of its own; or one of them.
        columns: fields are named by their suffix: ``txt``, or ``json.caption``. ``image`` needs no name. None: ``txt``
            is the short caption.

    Raises:
        ValueError: there is no tar, or one is compressed.
    """
    columns = columns or Columns(caption=None, short_caption="txt")
    root, pattern = (folder.parent, folder.name) if folder.is_file() else (folder, "*.tar")
    tars = sorted(root.rglob(pattern))
    if not tars:
        packed = [path.name for path in root.rglob("*.tar.*")]
        raise ValueError(f"{folder} has no *.tar" + (f"; unpack {packed[0]} first" if packed else ""))

    def drafts(report: Report) -> Iterator[Draft]:
        for path in tars:
            yield from _tar_drafts(path, path.relative_to(root).with_suffix("").as_posix(), columns, report)

    size = sum(path.stat().st_size for path in tars)
    return Source(folder.stem, fingerprint_files([folder], columns), drafts, TarImages(root), size // 50 + 1)
