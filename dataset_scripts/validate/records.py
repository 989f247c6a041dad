"""The records of a folder in any form that training takes, with images still encoded and nothing mended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fsspec

from dataset_scripts.annotations import annotation_files, read_published
from dataset_scripts.image_stores import FolderImages, MissingImage
from dataset_scripts.report import Report
from dataset_scripts.streaming.shard_files import ShardPath, StoredRow, find_shards


def _of_shards(shards: list[ShardPath], report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    for shard in shards:
        if shard.damage:
            report.bad("shard is cut or damaged", f"{shard.name}[{shard.readable}]", shard.damage)
        for record in shard.read(0, shard.records):
            if isinstance(record, StoredRow):
                yield record.where, record.values
            elif record.known:
                report.missing("record lost with its shard", record.where)
            else:
                report.bad("record cannot be read", record.where, record.reason)


def _of_layout(root: str, report: Report, options: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    images = FolderImages(f"{root.rstrip('/')}/images", options)
    for path in annotation_files(root, options):
        for _, where, source_id, published in read_published(path, report, options):
            try:
                data = images.read(source_id)
            except MissingImage as error:
                report.missing(str(error), where)
                continue
            yield where, {**published, "image": {"path": None, "bytes": data}, "source_id": source_id}


def raw_records(
    root: str, split: str, report: Report, storage_options: dict[str, Any] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and record; what cannot be read at all is counted in ``report``.

    Raises:
        ValueError: the folder holds neither shards nor the published layout.
    """
    options = storage_options or {}
    filesystem, base = fsspec.core.url_to_fs(root, **options)
    base = base.rstrip("/")
    if filesystem.isdir(f"{base}/jsonfiles"):
        return _of_layout(root, report, options)
    if filesystem.isdir(f"{base}/{split}/jsonfiles"):
        return _of_layout(f"{root.rstrip('/')}/{split}", report, options)
    shards = find_shards(root, split, options, verify=False)  # what is in them is looked at, whatever it is
    if not shards:
        raise ValueError(
            f"{root} holds neither shards ({split}-*.parquet or .tar) nor FineHARD's published layout (jsonfiles/)"
        )
    return _of_shards(shards, report)
