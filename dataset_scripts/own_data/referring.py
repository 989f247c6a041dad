"""Referring expressions: several phrases a box, many boxes an image, no caption of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.formats.coco import CocoImage, declared_size, read_boxes
from dataset_scripts.formats.files import check_unique
from dataset_scripts.formats.table import read_table
from dataset_scripts.image_stores import FolderImages
from dataset_scripts.json_stream import DamagedRecord
from dataset_scripts.own_data.mapping import fingerprint_files
from dataset_scripts.records import BoxFormat, clean_texts, join_captions
from dataset_scripts.report import Fault, Report

_EXPRESSIONS = ("expressions", "sentences", "expression", "caption", "phrase", "raw")
_IMAGES = ("file_name", "image", "img_path", "image_path")


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _texts(value: Any, where: str, report: Report) -> list[str]:
    """Usable expressions from a text, a list of texts, or a list of objects that hold one."""
    items = value if isinstance(value, list) else [value]
    found = [_first(item, (*_EXPRESSIONS, "sent")) if isinstance(item, dict) else item for item in items]
    return clean_texts(found, "expression", where, report)


def _rows(path: Path, report: Report) -> Iterator[tuple[str, Any]]:
    """One row a box with its place: as a list (or JSON lines) of rows, or as images and annotations in COCO's manner."""
    for where, row in read_table(path):
        if isinstance(row, dict) and "images" in row and "annotations" in row:  # the whole file
            images: dict[Any, Any] = {}
            seen: dict[Any, str] = {}
            for number, image in enumerate(row["images"] or []):
                place = f"{path.name}, images[{number}]"
                with report.entry(place):
                    check_unique(image["id"], place, seen, "image id")
                    images[image["id"]] = {name: image.get(name) for name in (*_IMAGES, "width", "height")}
            for number, annotation in enumerate(row["annotations"] or []):
                place = f"{path.name}, annotations[{number}]"
                joined = None
                with report.entry(place):
                    joined = {**images[annotation["image_id"]], **annotation}
                if joined is not None:
                    yield place, joined
        else:
            yield where, row


@dataclass
class _Picture:
    """One image, and the phrases of each of its boxes."""

    where: str
    size: tuple[float, float] | None
    boxes: dict[tuple, list[str]] = field(default_factory=dict)


def _grouped(path: Path, known: dict[Any, tuple[CocoImage, Any]] | None, report: Report) -> dict[str, _Picture]:
    """What the rows say, by image."""
    pictures: dict[str, _Picture] = {}
    refs: dict[Any, tuple[str, str, tuple]] = {}
    for where, row in _rows(path, report):
        report.keep("rows read")
        with report.entry(where):
            if isinstance(row, DamagedRecord):
                raise ValueError(row.text)
            if known is not None:
                image, box = known[row["ann_id"]]
                name, size = image.path, image.size
            else:
                name, box, size = (
                    _first(row, _IMAGES),
                    row.get("bbox"),
                    declared_size(row.get("width"), row.get("height")),
                )
            texts = _texts(_first(row, _EXPRESSIONS), where, report)
            if not isinstance(name, str) or not texts or not isinstance(box, list):
                report.bad("row without an image, a box or an expression", where, row)
                continue
            ref = row.get("ref_id")
            before = refs.setdefault(ref, (where, name, tuple(box)))
            if ref is not None and before[1:] != (name, tuple(box)):
                raise Fault(
                    f"{where} and {before[0]} have the same ref id {ref!r} for different boxes; were two data sets put "
                    "together? Give the entries of one of them new ones"
                )
            hash(key := tuple(box))  # a box of lists fails here, before there is a picture of it
            pictures.setdefault(name, _Picture(where, size)).boxes.setdefault(key, []).extend(texts)
    return pictures


def _draft(name: str, picture: _Picture, box_format: BoxFormat) -> Draft:
    regions = []
    for box, texts in picture.boxes.items():
        by_length = sorted(texts, key=len)
        regions.append({"bbox": list(box), "short_expr": by_length[0], "long_expr": by_length[-1]})
    phrases = list(dict.fromkeys(text for texts in picture.boxes.values() for text in texts))
    draft = {
        "image": name,
        "caption": join_captions(phrases),
        "short_captions": [],
        "regions": regions,
        "source_id": name,
        "box_format": box_format,
    }
    return draft | ({"size": picture.size} if picture.size else {})


def referring_source(path: Path, images: str, box_format: BoxFormat = "xywh", instances: Path | None = None) -> Source:
    """RefCOCO and the like as JSON. (The original ``refs(dataset).p`` is a pickle, which is never loaded.)

    A row has the image under one of ``file_name``, ``image``, ``img_path``; ``bbox``; and its phrases under one of
    ``expressions``, ``sentences``, ``expression``, ``caption``. The shortest phrase of a box becomes the short, the
    longest the long expression. All phrases of an image together serve as its caption.

    Args:
        path: ``.json`` or ``.jsonl``.
        images: folder or URL.
        box_format: of ``bbox``: ``"xywh"`` or ``"xyxy"`` in pixels, or ``"normalized"`` x1, y1, x2, y2.
        instances: RefCOCO's ``instances.json``: rows then name their box and image by ``ann_id``.

    Raises:
        ValueError: no JSON, or a pickle.
    """
    if path.suffix.lower() in (".p", ".pkl", ".pickle"):
        raise ValueError(
            f"{path} is a pickle, which can run code when it is loaded; convert it to JSON where you trust it"
        )
    files = [path] if instances is None else [path, instances]
    size = sum(file.stat().st_size for file in files)

    def drafts(report: Report) -> Iterator[Draft]:
        known = read_boxes(instances, report) if instances is not None else None
        for name, picture in _grouped(path, known, report).items():
            report.keep("records read")
            draft = None
            with report.entry(picture.where):
                draft = _draft(name, picture, "xywh" if known is not None else box_format)
            if draft is not None:
                yield draft

    return Source(path.stem, fingerprint_files(files, box_format), drafts, FolderImages(images), size)
