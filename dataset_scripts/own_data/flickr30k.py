"""Flickr30k Entities: captions whose phrases are tied to boxes (Plummer et al. 2015)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.formats.coco import declared_size
from dataset_scripts.image_stores import FolderImages
from dataset_scripts.own_data.mapping import fingerprint_files
from dataset_scripts.records import clean_text, join_captions
from dataset_scripts.report import Report

# Each part excludes what ends it, so that a bracket that is never closed is read once.
_PHRASE = re.compile(r"\[/EN#(\d+)(?:/[^ \[\]]*)? ([^\[\]]+)\]")


def parse_sentence(line: str) -> tuple[str, list[tuple[str, str]]]:
    """Plain text, and (entity, phrase) pairs, of ``[/EN#1/people Two men] look at [/EN#2/other a dog] .``"""
    pairs = _PHRASE.findall(line)
    return re.sub(r" ([.,;!?'])", r"\1", _PHRASE.sub(r"\2", line)).strip(), pairs


def _boxes(path: Path) -> tuple[tuple[float, float] | None, dict[str, list[list[float]]]]:
    """Size in pixels, and the boxes of each entity.

    Raises:
        Exception: whatever a damaged file makes of it.
    """
    tree = ElementTree.parse(path)
    sides = [tree.findtext(f"size/{side}") for side in ("width", "height")]
    size = declared_size(*(None if side is None else float(side) for side in sides))
    boxes: dict[str, list[list[float]]] = defaultdict(list)
    for thing in tree.iter("object"):
        box = thing.find("bndbox")
        if box is not None:
            corners = [float(box.findtext(edge) or "nan") for edge in ("xmin", "ymin", "xmax", "ymax")]
            for name in thing.iter("name"):
                boxes[(name.text or "").strip()].append(corners)
    return size, boxes


def _draft(path: Path, annotations: Path, report: Report) -> Draft:
    captions, phrases = [], defaultdict(list)
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        text, pairs = parse_sentence(line)
        if (text := clean_text(text, "caption", path.name, report)) is not None:
            captions.append(text)
            for entity, phrase in pairs:
                phrases[entity].append(phrase)
    size, boxes = None, {}
    with report.entry(f"{path.stem}.xml", "boxes are missing or damaged"):
        size, boxes = _boxes(annotations / "Annotations" / f"{path.stem}.xml")
    regions: list[dict[str, Any]] = []
    for entity, found in boxes.items():
        if entity not in phrases:
            continue
        if len(found) > 1:
            report.missing("phrase of several boxes", f"{path.name} entity {entity}")
            continue
        by_length = sorted(phrases[entity], key=len)
        regions.append({"bbox": found[0], "short_expr": by_length[0], "long_expr": by_length[-1]})
    name = f"{path.stem}.jpg"
    draft = {"image": name, "caption": join_captions(captions), "short_captions": captions, "regions": regions}
    return draft | {"source_id": name, "box_format": "xyxy"} | ({"size": size} if size else {})


def flickr30k_source(annotations: Path, images: str) -> Source:
    """An entity's shortest phrase is the short expression, its longest the long one.

    Entities of several boxes ("two men") are left out and counted, because no single box is what the phrase says.

    Args:
        annotations: folder with ``Sentences/*.txt`` and ``Annotations/*.xml``.
        images: folder or URL with ``ID.jpg``.

    Raises:
        ValueError: the folders are not there.
    """
    sentences = sorted((annotations / "Sentences").glob("*.txt"))
    if not sentences:
        raise ValueError(f"{annotations} has no Sentences/*.txt; it must be the unpacked Flickr30k Entities")

    def drafts(report: Report) -> Iterator[Draft]:
        for path in sentences:
            report.keep("records read")
            draft = None
            with report.entry(path.name):
                draft = _draft(path, annotations, report)
            if draft is not None:
                yield draft

    size = sum(path.stat().st_size for path in sentences)
    return Source("flickr30k_entities", fingerprint_files([annotations]), drafts, FolderImages(images), size)
