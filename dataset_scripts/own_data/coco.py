"""COCO captions and instances: https://cocodataset.org/#format-data."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.image_sources import FolderImages
from dataset_scripts.records import clean_regions, clean_text, to_fractions
from dataset_scripts.report import Report


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object with these keys.

    Raises:
        ValueError: it is none, or lacks one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(content, dict) or not set(keys) <= set(content):
        raise ValueError(
            f"{path} lacks {sorted(set(keys) - set(content))}; it must be a JSON object with {list(keys)}"
        )
    return content


def join_captions(captions: list[str]) -> tuple[str | None, str | None]:
    """(long, short) of an image's captions: all of them as sentences, and the first. A single one is both."""
    if not captions:
        return None, None
    return " ".join(f"{text.rstrip(' .')}." for text in captions), captions[0]


def group_regions(annotations: list[dict[str, Any]], names: dict[int, str], report: Report) -> dict[int, list[dict]]:
    """Regions with boxes in pixels, by image; groups of objects in one box are left out."""
    regions: dict[int, list[dict]] = defaultdict(list)
    for annotation in annotations:
        where = f"annotation {annotation.get('id')}"
        if annotation.get("iscrowd"):
            report.bad("box of a crowd", where)
        elif annotation.get("category_id") not in names:
            report.bad("box of an unknown category", where, annotation.get("category_id"))
        else:
            info = {"bbox": annotation.get("bbox"), "short_expr": names[annotation["category_id"]]}
            regions[annotation.get("image_id")].append(info)
    return regions


def name_objects(regions: list[dict[str, Any]]) -> str | None:
    """A caption for an image without one: the objects in its boxes, each kind once."""
    names = list(dict.fromkeys(region["short_expr"] for region in regions))
    return f"a photo of {', '.join(names)}" if names else None


def coco_source(captions: Path | None, instances: Path | None, images: str) -> Source:
    """Captions become the long (all) and short (first) caption, instances regions named after their category.

    Args:
        captions: ``captions_*.json``, or None: each image's short caption then names the objects in its boxes.
        instances: ``instances_*.json``, of the same images, or None.
        images: folder or URL in which ``file_name`` lies.

    Raises:
        ValueError: a file is not in COCO's format, or neither is given.
    """
    files = [path for path in (captions, instances) if path is not None]
    if not files:
        raise ValueError("received neither captions nor instances; give captions_*.json, --instances, or both")
    for path in files:
        keys = ["annotations"]
        keys += ["images"] if path is files[0] else []
        keys += ["categories"] if path is instances else []
        read_json(path, *keys)

    def drafts(report: Report) -> Iterator[Draft]:
        content = read_json(files[0], "images", "annotations")
        texts: dict[int, list[str]] = defaultdict(list)
        for annotation in content["annotations"] if captions is not None else ():
            text = clean_text(annotation.get("caption"), "caption", f"annotation {annotation.get('id')}", report)
            if text is not None:
                texts[annotation["image_id"]].append(text)
        boxes: dict[int, list[dict]] = {}
        if instances is not None:
            objects = read_json(instances, "annotations", "categories")
            names = {category["id"]: category["name"] for category in objects["categories"]}
            boxes = group_regions(objects["annotations"], names, report)
        for image in content["images"]:
            report.keep("records read")
            regions = boxes.get(image["id"], [])
            if captions is None:
                long, short = None, name_objects(regions)
            else:
                long, short = join_captions(texts.get(image["id"], []))
            if short is None:
                report.bad("record without a caption", str(image["file_name"]))
                continue
            infos = [
                {**info, "bbox": to_fractions(info["bbox"], "xywh", image["width"], image["height"])}
                for info in regions
            ]
            yield {
                "image": image["file_name"],
                "caption": long,
                "short_caption": short,
                "regions": clean_regions(infos, image["file_name"], report),
                "source_id": image["file_name"],
            }

    size = sum(path.stat().st_size for path in files)
    return Source(files[0].stem, fingerprint_files(files), drafts, FolderImages(images), size)


def fingerprint_files(files: list[Path]) -> str:
    """The revision of a source that consists of a few files or folders."""
    state = "\n".join(
        fingerprint(str(path), times=False) if path.is_dir() else f"{path.name} {path.stat().st_size}"
        for path in files
    )
    return hashlib.sha256(state.encode()).hexdigest()[:16]
