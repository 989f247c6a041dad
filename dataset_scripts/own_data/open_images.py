"""Open Images: boxes with classes, and no captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.formats.open_images import OpenImagesBox, read_boxes, read_classes
from dataset_scripts.image_stores import FolderImages
from dataset_scripts.own_data.mapping import fingerprint_files, name_objects
from dataset_scripts.report import Report


def open_images_source(annotations: Path, classes: Path, images: str) -> Source:
    """Boxes become regions named after their class; each image's short caption names the objects in its boxes.

    Args:
        annotations: ``*-annotations-bbox.csv``.
        classes: ``class-descriptions-boxable.csv``.
        images: folder or URL with ``ID.jpg``.

    Raises:
        ValueError: a file is not what it should be.
    """

    def drafts(report: Report) -> Iterator[Draft]:
        names = read_classes(classes, report)
        boxes: dict[str, list[OpenImagesBox]] = {}
        for box in read_boxes(annotations, names, report):
            report.keep("boxes read")
            if box.group:
                report.missing("box of a group", box.where)
            else:
                boxes.setdefault(box.image, []).append(box)
        for image, found in boxes.items():
            report.keep("records read")
            regions = [{"bbox": list(box.bbox), "short_expr": names[box.label]} for box in found]
            yield {
                "image": f"{image}.jpg",
                "caption": None,
                "short_captions": name_objects(region["short_expr"] for region in regions),
                "regions": regions,
                "source_id": f"{image}.jpg",
                "box_format": "normalized",
            }

    files = [annotations, classes]
    return Source(annotations.stem, fingerprint_files(files), drafts, FolderImages(images), annotations.stat().st_size)
