"""COCO captions and instances, and LVIS: https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.formats.coco import CocoImage, read_coco
from dataset_scripts.formats.files import read_object
from dataset_scripts.image_stores import FolderImages
from dataset_scripts.own_data.mapping import fingerprint_files, name_objects
from dataset_scripts.records import clean_texts, join_captions
from dataset_scripts.report import Report


def _draft(image: CocoImage, has_captions: bool, report: Report) -> Draft:
    if has_captions:
        short = [one for where, text in image.captions for one in clean_texts(text, "caption", where, report)]
        long = join_captions(short)
    else:
        long, short = None, name_objects(thing.name for thing in image.objects if not thing.crowd)
    for thing in image.objects:
        if thing.crowd:
            report.missing("box of a crowd", thing.where)
    regions = [{"bbox": thing.bbox, "short_expr": thing.name} for thing in image.objects if not thing.crowd]
    draft: Draft = {
        "image": image.path,
        "caption": long,
        "short_captions": short,
        "regions": regions,
        "source_id": image.path,
        "box_format": "xywh",
    }
    return draft | ({"size": image.size} if image.size else {})


def coco_source(captions: Path | None, instances: Path | None, images: str) -> Source:
    """Captions become the short ones, and together the long one; instances become regions named after their category.

    Args:
        captions: ``captions_*.json``, or None: each image's short caption then names the objects in its boxes.
        instances: ``instances_*.json`` or ``lvis_*.json``, of the same images, or None.
        images: folder or URL in which ``file_name`` lies, or what stands in for it in LVIS (``train2017/ID.jpg``).

    Raises:
        ValueError: a file is not in COCO's format, or neither is given.
    """
    files = [path for path in (captions, instances) if path is not None]
    if not files:
        raise ValueError("received neither captions nor instances; give captions_*.json, --instances, or both")
    for path in files:
        needed = (["images"] if path is files[0] else []) + (["categories"] if path is instances else [])
        read_object(path, "annotations", *needed)

    def drafts(report: Report) -> Iterator[Draft]:
        for image in read_coco(captions, instances, report).images:
            report.keep("records read")
            draft = None
            with report.entry(image.where):
                draft = _draft(image, captions is not None, report)
            if draft is not None:
                yield draft

    size = sum(path.stat().st_size for path in files)
    return Source(files[0].stem, fingerprint_files(files, captions is None), drafts, FolderImages(images), size)
