"""Retrieval by Chinese captions (FG-CLIP 2, table 5): LIT-CN, DCI-CN, DOCCI-CN (long), Flickr30k-CNA and COCO-CN (short)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from dataset_scripts.formats.captions import Captioned, read_caption_lines
from dataset_scripts.formats.files import read_lines
from eval.images import inside
from eval.tasks.base import register
from eval.tasks.captions import CaptionRows, CaptionTask
from eval.tasks.reading import at, shared_reader


@dataclass
class CaptionLines(CaptionTask):
    """Retrieval over a text file with an image and a caption a line."""

    def entries(self, *elsewhere: Path) -> list[Captioned]:
        """The images of the annotation file with their captions; `elsewhere` it may lie, too."""
        file = self.path(self.annotations, *elsewhere, what="annotation file")
        with shared_reader(self) as report:
            return list(read_caption_lines(file, report))


@dataclass
class LongChinese(CaptionLines):
    """Long text, one caption an image, as written.

    The published files name images by paths of the machine they were made on: an image is looked for below the folder
    of images by as much of the end of its path as leads to a file.
    """

    long: ClassVar[bool] = True
    as_written: ClassVar[bool] = True

    def read(self) -> CaptionRows:
        entries = self.entries()
        images = self.path(self.images, what="folder of images")
        rows = []
        for entry in entries:
            with at(self, entry.where):
                parts = PurePosixPath(entry.path).parts
                ends = [str(PurePosixPath(*parts[start:])) for start in range(entry.path.startswith("/"), len(parts))]
                path = next((end for end in ends if inside(images, end).is_file()), ends[-1])
            rows.append(self.caption_row(entry, images, path, entry.captions))
        return rows


def _wants(name: str, folder: str, file: str) -> str:
    return f"""It wants
  DATA/{folder}/{file}   https://huggingface.co/datasets/qihoo360/{name}
  DATA/{folder}/images/   its images, unpacked"""


@register
@dataclass
class LITCN(LongChinese):
    """33,010 images of AI Challenger, MUGE and the web with generated captions."""

    name: ClassVar[str] = "lit_cn"
    wants: ClassVar[str] = _wants("LIT-CN", "LIT-CN", "image_caption_long_cn.txt")

    annotations: Path = Path("LIT-CN/image_caption_long_cn.txt")
    images: Path = Path("LIT-CN/images")


@register
@dataclass
class DCICN(LongChinese):
    """Densely Captioned Images, translated."""

    name: ClassVar[str] = "dci_cn"
    wants: ClassVar[str] = _wants("DCI-CN", "DCI-CN", "image_caption_trans.txt")

    annotations: Path = Path("DCI-CN/image_caption_trans.txt")
    images: Path = Path("DCI-CN/images")


@register
@dataclass
class DOCCICN(LongChinese):
    """DOCCI, translated."""

    name: ClassVar[str] = "docci_cn"
    wants: ClassVar[str] = _wants("DOCCI-CN", "DOCCI-CN", "image_caption_trans.txt")

    annotations: Path = Path("DOCCI-CN/image_caption_trans.txt")
    images: Path = Path("DOCCI-CN/images")


@register
@dataclass
class Flickr30kCNA(CaptionLines):
    """The 1,000 test images of Flickr30k with five captions each, translated anew by native speakers; as written."""

    name: ClassVar[str] = "flickr30k_cna"
    as_written: ClassVar[bool] = True
    wants: ClassVar[str] = """It wants
  DATA/flickr30k_cna/flickr30k_cna_test.txt   lines of ID#NUMBER, a tab and the caption: https://github.com/yuxie11/R2D2 (there or in test/)
  DATA/flickr30k/flickr30k-images/            the images, on request: https://shannon.cs.illinois.edu/DenotationGraph/"""

    annotations: Path = Path("flickr30k_cna/flickr30k_cna_test.txt")
    images: Path = Path("flickr30k/flickr30k-images")

    def read(self) -> CaptionRows:
        entries = self.entries(self.annotations.parent / "test" / self.annotations.name)
        images = self.path(self.images, what="folder of images")
        return [self.caption_row(entry, images, f"{entry.path}.jpg", entry.captions) for entry in entries]


@register
@dataclass
class COCOCN(CaptionLines):
    """The 1,000 test images with five captions each, translated by hand: what the published script reads, lower-cased.

    Others test by the captions that were written in Chinese, one or two an image:
    `annotations=coco-cn/imageid.human-written-caption.txt ids=coco-cn/coco-cn_test.txt`.

    Attributes:
        ids: a file with the ids of the images to read, one a line, such as the split files of COCO-CN; all by default.
    """

    name: ClassVar[str] = "coco_cn"
    wants: ClassVar[str] = """It wants
  DATA/coco-cn/imageid.manually-translated-caption.txt   https://github.com/li-xirong/coco-cn (version 201805, on request)
  DATA/coco/train2014/, DATA/coco/val2014/               http://images.cocodataset.org/zips/train2014.zip, …/val2014.zip"""

    annotations: Path = Path("coco-cn/imageid.manually-translated-caption.txt")
    images: Path = Path("coco")
    ids: Path = Path()

    def read(self) -> CaptionRows:
        entries = self.entries()
        images = self.path(self.images, what="folder of images")
        if self.ids != Path():
            with shared_reader(self):
                kept = {line.strip() for _, line in read_lines(self.path(self.ids, what="file of image ids"))}
            entries = [entry for entry in entries if entry.path in kept]
        return [self.caption_row(entry, images, self._file(entry), entry.captions[:5]) for entry in entries]

    def _file(self, entry: Captioned) -> str:
        """``COCO_val2014_000000160220`` → ``val2014/COCO_val2014_000000160220.jpg``."""
        with at(self, entry.where):
            parts = entry.path.split("_")
            if len(parts) != 3:
                raise ValueError(f"an id of COCO-CN is such as COCO_val2014_000000160220; got {entry.path!r}")
            return f"{parts[1]}/{entry.path}.jpg"
