"""Images with captions and no boxes: Karpathy's splits of COCO and Flickr, ShareGPT4V, Densely Captioned Images, lines of text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dataset_scripts.formats.files import places, read_json, read_lines, read_object
from dataset_scripts.report import Report

# "#0" of Flickr30k's captions, "#zhm#0" of COCO-CN's manual translations.
_NUMBER = re.compile(r"(#[a-z]+)?#\d+$")


@dataclass(frozen=True)
class Captioned:
    """One image.

    Attributes:
        where: file and place. path: below the folder of images.
        captions: as they stand in the file, the first one first; of DCI the short and the extra caption.
    """

    where: str
    path: str
    captions: list[Any]


def _path(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text; got {value!r}")
    return value


def read_karpathy(path: Path, splits: Collection[str], report: Report) -> Iterator[Captioned]:
    """The images of these splits of ``dataset_coco.json``, ``dataset_flickr30k.json`` or ``dataset_flickr8k.json``.

    Raises:
        ValueError: no such file, or a fault of an entry, where the report says so.
    """
    for where, entry in places(read_object(path, "images")["images"], path, "images"):
        found = None
        with report.entry(where):
            if entry["split"] in splits:
                folder = f"{entry['filepath']}/" if entry.get("filepath") else ""
                name = _path(entry["filename"], "filename")
                found = Captioned(where, folder + name, [sentence["raw"] for sentence in entry["sentences"]])
        if found is not None:
            yield found


def read_sharegpt4v(path: Path, report: Report, count: int | None = None) -> Iterator[Captioned]:
    """The answers of ShareGPT4V's captioner file, of its first ``count`` conversations or of all.

    Raises:
        ValueError: no such file, or a fault of an entry, where the report says so.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds a JSON {type(entries).__name__}; it must be a list of conversations")
    for where, entry in places(entries[:count], path, ""):
        found = None
        with report.entry(where):
            found = Captioned(where, _path(entry["image"], "image"), [entry["conversations"][1]["value"]])
        if found is not None:
            yield found


def read_dci(folder: Path, report: Report) -> Iterator[Captioned]:
    """Densely Captioned Images: one file an image, with a short caption and an extra one that goes on from it.

    Raises:
        ValueError: no file, or a fault of one, where the report says so.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{folder} has no *.json; it must be the annotations of Densely Captioned Images")
    for file in files:
        found = None
        with report.entry(file.name):
            entry = read_json(file)
            captions = [entry["short_caption"], entry["extra_caption"]]
            found = Captioned(file.name, _path(entry["image"], "image"), captions)
        if found is not None:
            yield found


def read_caption_lines(path: Path, report: Report) -> Iterator[Captioned]:
    """A text file with an image and a caption a line, separated by a tab, or by blanks in a line without one.

    Lines of one image are joined, in the order of its first: with the number of a caption behind it, ``ID#0``, as
    Flickr30k-CNA and COCO-CN have it, or by its path alone, as the long captions of FG-CLIP 2's benchmarks.

    Raises:
        ValueError: no such file, or a fault of a line, where the report says so.
    """
    found: dict[str, Captioned] = {}
    for where, line in read_lines(path):
        with report.entry(where):
            image, caption = line.strip().split("\t" if "\t" in line.strip() else None, 1)
            image = _NUMBER.sub("", image.strip())
            found.setdefault(image, Captioned(where, image, [])).captions.append(caption.strip())
    yield from found.values()


def own_name(path: str) -> str:
    """The file's own name: ShareGPT4V names images by a path that no download has."""
    return PurePosixPath(path).name
