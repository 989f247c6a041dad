"""Annotation files in FineHARD's published layout, read as a stream and joined with their images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec

from dataset_scripts.image_stores import ImageStore, MissingImage
from dataset_scripts.images import BadImage, check_image
from dataset_scripts.json_stream import DamagedRecord, iterate_records
from dataset_scripts.paths import UnsafePath, image_path
from dataset_scripts.prefetch import prefetch
from dataset_scripts.records import clean_record
from dataset_scripts.report import Report


def annotation_files(root: str, storage_options: dict[str, Any]) -> dict[str, int]:
    """Size in bytes by URL of the annotation files in FineHARD's published layout.

    Raises:
        ValueError: there is none.
    """
    filesystem, base = fsspec.core.url_to_fs(root, **storage_options)
    found = {}
    for suffix in ("json", "jsonl", "json.gz", "jsonl.gz"):
        for path in filesystem.glob(f"{base.rstrip('/')}/jsonfiles/*.{suffix}"):
            found[filesystem.unstrip_protocol(path)] = int(filesystem.size(path) or 0)
    if not found:
        raise ValueError(f"{root} is not in FineHARD's published layout: {root}/jsonfiles holds no .json file")
    return dict(sorted(found.items()))


def read_published(
    path: str, report: Report, storage_options: dict[str, Any], start: int = 0, stride: int = 1
) -> Iterator[tuple[int, str, str, dict[str, Any]]]:
    """Number, place, ``source_id`` and published record of each usable record of one annotation file.

    Records before ``start``, and all but every ``stride``-th from there, are passed over without being counted.
    """
    for number, published in enumerate(iterate_records(path, storage_options)):
        if number < start or (number - start) % stride:
            continue
        where = f"{PurePosixPath(path).name}[{number}]"
        report.keep("records read")
        if isinstance(published, DamagedRecord):
            report.bad("record is no valid JSON", where, published.text)
        elif not isinstance(published, dict):
            report.bad("record is no object", where, published)
        elif published.get("f_path") is None:
            report.bad("record without an image", where)
        else:
            try:
                yield number, where, image_path(published.get("f_path")), published
            except UnsafePath as error:
                report.bad("path leaves its root", where, error)


def read_annotation_file(
    path: str,
    images: ImageStore,
    report: Report,
    storage_options: dict[str, Any],
    start: int = 0,
    stride: int = 1,
    decode: bool = True,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered records of the schema that have a usable image and caption; the rest is counted in ``report``.

    ``image`` is ``{"path": None, "bytes": …}`` with bytes that :func:`~dataset_scripts.images.check_image` passed;
    ``decode`` is its.
    """

    def load(item: tuple[int, str, str, dict[str, Any]]) -> bytes:
        return check_image(images.read(item[2]), decode=decode).data

    published_records = read_published(path, report, storage_options, start, stride)
    for (number, where, source_id, published), image in prefetch(published_records, load, images.readers, len):
        try:
            data = image.result()
        except MissingImage as error:
            report.missing(str(error), f"{where} {source_id}")
            continue
        except BadImage as error:
            report.bad(error.reason, f"{where} {source_id}", error)
            continue
        record = clean_record(published, source_id, report, f"{where} {source_id}")
        if record is not None:
            report.keep("records kept")
            yield number, {"image": {"path": None, "bytes": data}, **record}
