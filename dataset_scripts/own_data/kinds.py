"""Every kind of data set by its name: the way in for whoever is told what to read, such as curation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataset_scripts.convert.source import Source, finehard_source
from dataset_scripts.formats.files import read_object
from dataset_scripts.own_data.captions import dci_source, karpathy_source, sharegpt4v_source
from dataset_scripts.own_data.coco import coco_source
from dataset_scripts.own_data.columns import Columns
from dataset_scripts.own_data.flickr30k import flickr30k_source
from dataset_scripts.own_data.folder import folder_source
from dataset_scripts.own_data.hub import hub_source, parquet_files, parquet_source
from dataset_scripts.own_data.open_images import open_images_source
from dataset_scripts.own_data.referring import referring_source
from dataset_scripts.own_data.table import table_source
from dataset_scripts.own_data.tars import webdataset_source
from dataset_scripts.paths import called_images
from dataset_scripts.report import Report

_TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl")


def _finehard(place: str) -> Source:
    return finehard_source(place, Path("unused"), Report())  # images lie beside the annotations: nothing is fetched


def _coco(place: str, images: str, captions: str | None = None) -> Source:
    if captions is None and "categories" not in read_object(Path(place), "annotations"):
        return coco_source(Path(place), None, images)
    return coco_source(Path(captions) if captions else None, Path(place), images)


def _table(place: str, columns: Columns | None, images: str | None = None, encoding: str | None = None) -> Source:
    return table_source(Path(place), images or str(Path(place).parent), columns, encoding)


def _referring(place: str, images: str, box_format: str = "xywh", instances: str | None = None) -> Source:
    return referring_source(Path(place), images, box_format, Path(instances) if instances else None)


# The first argument is the place; `columns` stands where rows have columns of any name.
KINDS: dict[str, Callable[..., Source]] = {
    "images": lambda place: folder_source(Path(place)),
    "parquet": lambda place, columns: parquet_source(Path(place), columns),
    "webdataset": lambda place, columns: webdataset_source(Path(place), columns),
    "table": _table,
    "hub": lambda place, columns, split="train", config=None, revision=None: hub_source(
        place, columns, split, config, revision
    ),
    "finehard": _finehard,
    "coco": _coco,
    "flickr30k": lambda place, images: flickr30k_source(Path(place), images),
    "referring": _referring,
    "karpathy": lambda place, images, splits=("train", "restval"): karpathy_source(Path(place), images, splits),
    "sharegpt4v": lambda place, images: sharegpt4v_source(Path(place), images),
    "dci": lambda place, images: dci_source(Path(place), images),
    "openimages": lambda place, images, classes: open_images_source(Path(place), Path(classes), images),
}


def options_of(kind: str) -> dict[str, bool]:
    """What a kind takes besides place and columns, and whether it must be given."""
    parameters = list(inspect.signature(KINDS[kind]).parameters.values())[1:]
    return {one.name: one.default is one.empty for one in parameters if one.name != "columns"}


def takes_columns(kind: str) -> bool:
    """Whether its columns may be called anything."""
    return "columns" in inspect.signature(KINDS[kind]).parameters


def guess_kind(place: str) -> str:
    """What lies at a place.

    Raises:
        ValueError: nothing, or nothing that is known by its looks.
    """
    path = Path(place)
    if not path.exists():
        if place.count("/") == 1 and not place.startswith((".", "/", "~")):
            return "hub"
        raise ValueError(f"The input {place} does not exist.")
    if (path / "jsonfiles").is_dir():
        return "finehard"
    if path.is_file():
        suffix = path.suffix.lower()
        found = {".parquet": "parquet", ".tar": "webdataset", **dict.fromkeys(_TABLES, "table")}.get(suffix, "images")
    elif parquet_files(path):
        found = "parquet"
    elif any(path.rglob("*.tar")):
        found = "webdataset"
    elif called_images(path):
        found = "images"
    else:
        raise ValueError(
            f"The input {place} has neither jsonfiles/ (FineHARD's layout), nor .parquet, .tar or image files in it."
        )
    return found


def open_source(
    kind: str, place: str, columns: Columns | None = None, options: dict[str, Any] | None = None
) -> Source:
    """The source of a kind at a place.

    Args:
        kind: one of `KINDS`, or ``"auto"`` for what :func:`guess_kind` says.
        place: file, folder or name.
        columns: for kinds that take them; None: those that are called like the parts of a record.
        options: see :func:`options_of`.

    Raises:
        ValueError: an option that the kind does not know or needs, or what the source itself refuses.
    """
    kind = guess_kind(place) if kind == "auto" else kind
    known, given = options_of(kind), options or {}
    lacking = [name for name, needed in known.items() if needed and name not in given]
    if lacking or set(given) - set(known):
        raise ValueError(
            f"data of the kind {kind!r} needs the options {lacking} and has no options {sorted(set(given) - set(known))}; "
            f"it takes {', '.join(known) or 'none'}"
        )
    if takes_columns(kind):
        return KINDS[kind](place, columns=columns, **given)
    if columns is not None:
        raise ValueError(f"data of the kind {kind!r} have columns of their own; leave columns out")
    return KINDS[kind](place, **given)
