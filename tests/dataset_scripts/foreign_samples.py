"""A small valid sample of every foreign format, and the source that reads it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dataset_scripts.convert import Source
from dataset_scripts.own_data import (
    Columns,
    coco_source,
    dci_source,
    flickr30k_source,
    karpathy_source,
    open_images_source,
    referring_source,
    sharegpt4v_source,
    table_source,
    webdataset_source,
)

IMAGES = [f"{number}.jpg" for number in range(4)]
_TEXTS = ["A dog runs.", "Two cats on a mat, asleep", "a café", 'He said "no"']


def picture() -> bytes:
    """A JPEG of 40 × 20 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (40, 20), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        files: name → contents, as JSON or bytes; the mutated one is the first.
        source: from the folder that holds them.
        lines: whether JSON is written in lines. rows: whether each row is either a draft or counted as lost.
    """

    files: dict[str, Any]
    source: Callable[[Path], Source]
    lines: bool = False
    rows: bool = True

    def write(self, folder: Path, first: Any | None = None) -> Path:
        """The files, the first one with other contents where given; and the first one's path."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, content) in enumerate(self.files.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.encoded(first if number == 0 and first is not None else content))
        return folder / next(iter(self.files))

    def encoded(self, content: Any) -> bytes:
        if isinstance(content, bytes):
            return content
        if self.lines and isinstance(content, list):
            return "\n".join(map(json.dumps, content)).encode()
        return json.dumps(content).encode()

    @property
    def first(self) -> Any:
        return next(iter(self.files.values()))


def _images(**more: Any) -> list[dict[str, Any]]:
    return [{"id": number, "file_name": name, "width": 40, "height": 20, **more} for number, name in enumerate(IMAGES)]


_CAPTIONS = {
    "images": _images(),
    "annotations": [{"id": 10 + n, "image_id": n % 4, "caption": text} for n, text in enumerate(_TEXTS * 2)],
}
_INSTANCES = {
    "images": _images(),
    "categories": [{"id": 3, "name": "dog"}, {"id": 7, "name": "bow_(ribbon)"}],
    "annotations": [
        {
            "id": 20 + n,
            "image_id": n % 4,
            "category_id": 3 + n % 2 * 4,
            "bbox": [2 * n, 2, 10, 8],
            "area": 80,
            "iscrowd": 0,
        }
        for n in range(8)
    ],
}
_LVIS = {
    **_INSTANCES,
    "images": [{**image, "coco_url": f"http://x/train2017/{image['id']}.jpg"} for image in _images()],
}
for _image in _LVIS["images"]:
    del _image["file_name"]
_REGIONS = [
    {"bbox": [4, 2, 20, 10], "short_expr": "dog", "negatives": ["cat"], "score": 0.5},
    {"bbox": [0, 0, 40, 20], "category": "mat"},
]
_ROWS = [
    {"path": name, "text": text, "boxes": _REGIONS, "w": 40, "h": 20, "id": f"r{n}"}
    for n, (name, text) in enumerate(zip(IMAGES, _TEXTS, strict=True))
]
_COLUMNS = Columns(
    image="path",
    caption=None,
    short_caption="text",
    regions="boxes",
    width="w",
    height="h",
    source_id="id",
    box_format="xyxy",
)
_REFS = [
    {"file_name": IMAGES[n % 4], "bbox": [n, 2, 10, 8], "sentences": [{"sent": text}], "ref_id": n, "ann_id": 20 + n}
    for n, text in enumerate(_TEXTS)
]


def _separated(delimiter: str) -> bytes:
    def cell(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        quoted = '"' + text.replace('"', '""') + '"'
        return quoted if '"' in text or (delimiter in text and delimiter != "\t") else text

    rows = [list(_ROWS[0]), *([row[name] for name in row] for row in _ROWS)]
    return "\r\n".join(delimiter.join(map(cell, row)) for row in rows).encode()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, row in enumerate(_ROWS):
            members = {"jpg": picture(), "txt": row["text"].encode(), "json": json.dumps(row).encode()}
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{number:05d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


_XML = (
    b"<annotation><size><width>40</width><height>20</height></size>"
    b"<object><name>1</name><bndbox><xmin>4</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object></annotation>"
)
_SENTENCE = (
    b"[/EN#1/people A man] with [/EN#2/clothing a red hat] sees something .\n[/EN#1/people The tall man] looks .\n"
)
_BOXES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
    + "".join(f"{n % 4},x,/m/{n % 2},1,0.{n},0.9,0.1,0.8,0,0,{int(n == 5)},0,0\n" for n in range(8))
)


def _table(name: str) -> Callable[[Path], Source]:
    return lambda folder: table_source(folder / name, str(folder), _COLUMNS)


FORMATS: dict[str, Format] = {
    "coco captions": Format({"c.json": _CAPTIONS, "i.json": _INSTANCES}, lambda f: coco_source(f / "c.json", f / "i.json", str(f)), rows=False),
    "coco instances": Format({"i.json": _INSTANCES}, lambda f: coco_source(None, f / "i.json", str(f)), rows=False),
    "lvis": Format({"l.json": _LVIS}, lambda f: coco_source(None, f / "l.json", str(f)), rows=False),
    "csv": Format({"t.csv": _separated(",")}, _table("t.csv")),
    "semicolons": Format({"t.CSV": _separated(";")}, _table("t.CSV")),
    "tsv": Format({"t.tsv": _separated("\t")}, _table("t.tsv")),
    "json": Format({"t.json": _ROWS}, _table("t.json")),
    "json lines": Format({"t.jsonl": _ROWS}, _table("t.jsonl"), lines=True),
    "referring": Format({"r.json": _REFS}, lambda f: referring_source(f / "r.json", str(f)), rows=False),
    "refcoco": Format(
        {"r.json": _REFS, "i.json": _INSTANCES}, lambda f: referring_source(f / "r.json", str(f), instances=f / "i.json"), rows=False
    ),
    "karpathy": Format(
        {"k.json": {"images": [{"filename": name, "filepath": "a", "split": "train", "sentences": [{"raw": text}, {"raw": "x"}]} for name, text in zip(IMAGES, _TEXTS, strict=True)]}},
        lambda f: karpathy_source(f / "k.json", str(f)), rows=False,
    ),
    "sharegpt4v": Format(
        {"s.json": [{"image": f"sam/{name}", "conversations": [{"value": "?"}, {"value": text}]} for name, text in zip(IMAGES, _TEXTS, strict=True)]},
        lambda f: sharegpt4v_source(f / "s.json", str(f)), rows=False,
    ),
    "dci": Format({"d/a.json": {"image": IMAGES[0], "short_caption": "a dog", "extra_caption": "It runs."}}, lambda f: dci_source(f / "d", str(f)), rows=False),
    "flickr30k sentences": Format(
        {"Sentences/0.txt": _SENTENCE, "Annotations/0.xml": _XML}, lambda f: flickr30k_source(f, str(f))
    ),
    "flickr30k boxes": Format({"Annotations/0.xml": _XML, "Sentences/0.txt": _SENTENCE}, lambda f: flickr30k_source(f, str(f))),
    "open images": Format(
        {"b.csv": _BOXES.encode(), "c.csv": b"/m/0,Dog\n/m/1,Cat\n"}, lambda f: open_images_source(f / "b.csv", f / "c.csv", str(f)), rows=False
    ),
    "tar": Format({"00000.tar": _tar()}, lambda f: webdataset_source(f, Columns(caption="txt", regions="json.boxes", box_format="xyxy"))),
}  # fmt: skip
