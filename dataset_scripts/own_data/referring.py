"""Referring expressions: several phrases a box, many boxes an image, no caption of the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.image_sources import FolderImages
from dataset_scripts.own_data.coco import fingerprint_files
from dataset_scripts.records import BoxFormat
from dataset_scripts.report import Report

_EXPRESSIONS = ("expressions", "sentences", "expression", "caption", "phrase", "raw")
_IMAGES = ("file_name", "image", "img_path", "image_path")


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _texts(value: Any) -> list[str]:
    """Expressions from a text, a list of texts, or a list of objects that hold one."""
    items = value if isinstance(value, list) else [value]
    return [item if isinstance(item, str) else str(_first(item, (*_EXPRESSIONS, "sent"))) for item in items if item]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """One row per box: as a list (or JSON lines) of rows, or as images and annotations in COCO's manner."""
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        try:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is neither JSON nor JSON lines: {error}") from error
    if isinstance(content, dict):
        if not {"images", "annotations"} <= set(content):
            raise ValueError(f"{path} is an object without images and annotations; it has {sorted(content)}")
        images = {image["id"]: image for image in content["images"]}
        for annotation in content["annotations"]:
            yield {**images.get(annotation["image_id"], {}), **annotation}
    else:
        yield from content


def referring_source(path: Path, images: str, box_format: BoxFormat = "xywh") -> Source:
    """RefCOCO and the like as JSON. (The original ``refs(dataset).p`` is a pickle, which is never loaded.)

    A row has the image under one of ``file_name``, ``image``, ``img_path``; ``bbox``; and its phrases under one of
    ``expressions``, ``sentences``, ``expression``, ``caption``. The shortest phrase of a box becomes the short, the
    longest the long expression. All phrases of an image together serve as its caption.

    Args:
        path: ``.json`` or ``.jsonl``.
        images: folder or URL.
        box_format: of ``bbox``: ``"xywh"`` or ``"xyxy"`` in pixels, or ``"normalized"`` x1, y1, x2, y2.
    """
    if path.suffix in (".p", ".pkl", ".pickle"):
        raise ValueError(
            f"{path} is a pickle, which can run code when it is loaded; convert it to JSON where you trust it"
        )

    def drafts(report: Report) -> Iterator[Draft]:
        grouped: dict[str, dict[tuple, list[str]]] = {}
        for number, row in enumerate(_rows(path)):
            report.keep("boxes read")
            image, texts = _first(row, _IMAGES), _texts(_first(row, _EXPRESSIONS))
            if not isinstance(image, str) or not texts or not isinstance(row.get("bbox"), list):
                report.bad("row without an image, a box or an expression", f"{path.name}[{number}]", row)
                continue
            grouped.setdefault(image, {}).setdefault(tuple(row["bbox"]), []).extend(texts)
        for image, boxes in grouped.items():
            infos = []
            for box, texts in boxes.items():
                by_length = sorted(texts, key=len)
                infos.append({"bbox": list(box), "short_expr": by_length[0], "long_expr": by_length[-1]})
            phrases = list(dict.fromkeys(text.strip() for texts in boxes.values() for text in texts if text.strip()))
            if not phrases:
                report.bad("record without a caption", image)
                continue
            yield {
                "image": image,
                "caption": " ".join(f"{text.rstrip('.')}." for text in phrases),
                "short_caption": None,
                "regions": infos,
                "source_id": image,
                "box_format": box_format,
            }

    return Source(path.stem, fingerprint_files([path]), drafts, FolderImages(images), path.stat().st_size)
