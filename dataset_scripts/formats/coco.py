"""COCO's format (https://cocodataset.org/#format-data) and LVIS's, which lacks ``file_name``: instances and captions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

from dataset_scripts.formats.files import check_unique, places, read_object
from dataset_scripts.report import Fault, Report


@dataclass(frozen=True)
class CocoObject:
    """One annotation of an instances file.

    Attributes:
        where: file and place. category: its id. name: of the category, in words.
        bbox: as it stands in the file: x, y, width, height in pixels.
        area: of the object's segment, in pixels; None if absent.
        crowd: the box is around a group.
    """

    where: str
    category: Any
    name: str
    bbox: Any
    area: Any
    crowd: bool


@dataclass
class CocoImage:
    """One image with what is said about it.

    Attributes:
        where: file and place. id: of the file. path: below the folder of images.
        size: (width, height) in pixels that the boxes refer to; None if the file has none.
        objects: its instances. captions: place and text of each, as they stand in the file.
    """

    where: str
    id: Any
    path: str
    size: tuple[float, float] | None
    objects: list[CocoObject] = field(default_factory=list)
    captions: list[tuple[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Coco:
    """Images in the file's order, and the words of each category id."""

    images: list[CocoImage]
    categories: dict[Any, str]


def category_words(name: object) -> str:
    """``bow_(decorative_ribbons)`` → ``bow (decorative ribbons)``: a category's name as a caption would have it.

    Raises:
        ValueError: no text.
    """
    if not isinstance(name, str) or not name.strip("_ \t\n"):
        raise ValueError(f"name must be a text; got {name!r}")
    return " ".join(name.replace("_", " ").split())


def image_path(entry: dict[str, Any]) -> str:
    """``file_name``, or where there is none the folder and name in ``coco_url``, such as ``train2017/000000391895.jpg``.

    Raises:
        ValueError: neither is a text.
    """
    name, url = entry.get("file_name"), entry.get("coco_url")
    if isinstance(name, str) and name:
        return name
    if name is None and isinstance(url, str) and url:
        return "/".join(PurePosixPath(urlparse(url).path).parts[-2:])
    raise ValueError(f"file_name (or coco_url) must be a text; got {name!r}")


def declared_size(width: object, height: object) -> tuple[float, float] | None:
    """(width, height) in pixels; None where neither is given.

    Raises:
        ValueError: no positive numbers.
    """
    if width is None and height is None:
        return None
    sides = (width, height)
    if not all(isinstance(side, int | float) and not isinstance(side, bool) for side in sides) or not all(
        0 < side < math.inf for side in sides
    ):
        raise ValueError(f"width and height must be positive numbers of pixels; got {width!r} and {height!r}")
    return float(width), float(height)


def _images(path: Path, entries: list[Any], report: Report) -> dict[Any, CocoImage]:
    images: dict[Any, CocoImage] = {}
    seen: dict[Any, str] = {}
    for where, entry in places(entries, path, "images"):
        with report.entry(where):
            check_unique(entry["id"], where, seen, "image id")
            size = declared_size(entry.get("width"), entry.get("height"))
            images[entry["id"]] = CocoImage(where, entry["id"], image_path(entry), size)
    return images


def _categories(path: Path, entries: list[Any], report: Report) -> dict[Any, str]:
    names: dict[Any, str] = {}
    seen: dict[Any, str] = {}
    for where, entry in places(entries, path, "categories"):
        with report.entry(where):
            check_unique(entry["id"], where, seen, "category id")
            names[entry["id"]] = category_words(entry["name"])
    return names


def _check_same_images(path: Path, entries: list[Any], images: dict[Any, CocoImage], report: Report) -> None:
    """An image id must mean the same picture in both files.

    Raises:
        Fault: it does not.
    """
    for number, other in _images(path, entries, report).items():
        own = images.get(number)
        if own is not None and own.path != other.path:
            raise Fault(
                f"the image id {number!r} is {own.path!r} in {own.where} and {other.path!r} in {other.where}; captions and "
                "instances must be of the same images"
            )


def _add_annotations(
    path: Path, entries: list[Any], images: dict[Any, CocoImage], names: dict[Any, str] | None, report: Report
) -> None:
    """Captions where ``names`` is None, else objects."""
    seen: dict[Any, str] = {}
    for where, entry in places(entries, path, "annotations"):
        with report.entry(where):
            if entry.get("id") is not None:
                check_unique(entry["id"], where, seen, "annotation id")
            image = images.get(entry["image_id"])
            if image is None:
                report.bad("annotation of an image that is not listed", where, entry["image_id"])
            elif names is None:
                image.captions.append((where, entry["caption"]))
            elif entry["category_id"] not in names:
                report.bad("annotation of an unknown category", where, entry["category_id"])
            else:
                category = entry["category_id"]
                image.objects.append(
                    CocoObject(
                        where, category, names[category], entry["bbox"], entry.get("area"), bool(entry.get("iscrowd"))
                    )
                )


def read_coco(captions: Path | None, instances: Path | None, report: Report) -> Coco:
    """A captions file, an instances file, or both, joined by the ids of their images.

    Args:
        captions, instances: at least one. The images are those that the first lists.
        report: counts entries that are malformed, and annotations that meet no image or no category.

    Raises:
        ValueError: no such file; an id of an image, category or annotation is not unique; or a fault of an entry, where
            the report says so.
    """
    read = {path: read_object(path, "images", "annotations") for path in (captions,) if path is not None}
    if instances is not None:
        keys = ("images", "annotations", "categories") if captions is None else ("annotations", "categories")
        read[instances] = read_object(instances, *keys)
    first = captions if captions is not None else instances
    images = _images(first, read[first]["images"], report)
    if captions is not None:
        _add_annotations(captions, read[captions]["annotations"], images, None, report)
    categories: dict[Any, str] = {}
    if instances is not None:
        content = read[instances]
        if captions is not None and isinstance(content.get("images"), list):
            _check_same_images(instances, content["images"], images, report)
        categories = _categories(instances, content["categories"], report)
        _add_annotations(instances, content["annotations"], images, categories, report)
    return Coco(list(images.values()), categories)


def read_boxes(path: Path, report: Report) -> dict[Any, tuple[CocoImage, Any]]:
    """The image and the box (x, y, width, height in pixels) of each annotation id; categories are not needed.

    Raises:
        ValueError: as :func:`read_coco`.
    """
    content = read_object(path, "images", "annotations")
    images = _images(path, content["images"], report)
    found: dict[Any, tuple[CocoImage, Any]] = {}
    seen: dict[Any, str] = {}
    for where, entry in places(content["annotations"], path, "annotations"):
        with report.entry(where):
            check_unique(entry["id"], where, seen, "annotation id")
            if entry["image_id"] in images:
                found[entry["id"]] = images[entry["image_id"]], entry["bbox"]
            else:
                report.bad("annotation of an image that is not listed", where, entry["image_id"])
    return found
