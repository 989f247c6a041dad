"""Images with captions alone: Karpathy's splits of COCO and Flickr, ShareGPT4V, Densely Captioned Images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.formats.captions import Captioned, own_name, read_dci, read_karpathy, read_sharegpt4v
from dataset_scripts.image_stores import FolderImages
from dataset_scripts.own_data.mapping import fingerprint_files
from dataset_scripts.records import clean_texts, join_captions
from dataset_scripts.report import Report

_Reader = Callable[[Report], Iterator[Captioned]]
_Texts = tuple[str | None, list[str]]  # long, short


def _source(
    name: str, files: list[Path], images: str, read: _Reader, texts_of: Callable[[list[str]], _Texts], *options: object
) -> Source:
    def draft(image: Captioned, report: Report) -> Draft:
        long, short = texts_of(clean_texts(image.captions, "caption", image.where, report))
        captions = {"caption": long, "short_captions": short}
        return {"image": image.path, **captions, "regions": [], "source_id": image.path}

    def drafts(report: Report) -> Iterator[Draft]:
        for image in read(report):
            report.keep("records read")
            found = None
            with report.entry(image.where):
                found = draft(image, report)
            if found is not None:
                yield found

    size = sum(path.stat().st_size for file in files for path in ([file] if file.is_file() else file.glob("*.json")))
    return Source(name, fingerprint_files(files, *options), drafts, FolderImages(images), size)


def karpathy_source(path: Path, images: str, splits: Sequence[str] = ("train", "restval")) -> Source:
    """``dataset_coco.json``, ``dataset_flickr30k.json`` or ``dataset_flickr8k.json``: about five captions an image.

    Args:
        path: the file.
        images: folder or URL; for COCO the one with ``train2014/`` and ``val2014/``.
        splits: which images.
    """
    return _source(
        path.stem,
        [path],
        images,
        lambda report: read_karpathy(path, splits, report),
        lambda texts: (join_captions(texts), texts),
        tuple(splits),
    )


def sharegpt4v_source(path: Path, images: str) -> Source:
    """ShareGPT4V: one long caption an image, which is found by its own name below ``images``."""

    def read(report: Report) -> Iterator[Captioned]:
        for image in read_sharegpt4v(path, report):
            yield Captioned(image.where, own_name(image.path), image.captions)

    return _source(path.stem, [path], images, read, lambda texts: (join_captions(texts), []))


def dci_source(folder: Path, images: str) -> Source:
    """Densely Captioned Images: the long caption is the short and the extra one, as the data set joins them."""

    def texts(captions: list[str]) -> _Texts:
        return "\n".join(captions) or None, captions[:1]

    return _source("densely_captioned_images", [folder], images, lambda report: read_dci(folder, report), texts)
