"""A folder of images, with a text beside each where there is one: img2dataset's format ``files``, or plain pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataset_scripts.convert.source import Draft, Source
from dataset_scripts.image_stores import FolderImages
from dataset_scripts.own_data.mapping import fingerprint_files
from dataset_scripts.paths import image_files
from dataset_scripts.records import clean_texts
from dataset_scripts.report import Report


def folder_source(folder: Path) -> Source:
    """Images below a folder; ``NAME.txt`` beside one is its short caption.

    Args:
        folder: the folder, or one image.

    Raises:
        ValueError: there is no image.
    """
    root, files = (folder.parent, [folder]) if folder.is_file() else (folder, image_files(folder))

    def drafts(report: Report) -> Iterator[Draft]:
        for path in files:
            name, text = path.relative_to(root).as_posix(), path.with_suffix(".txt")
            report.keep("records read")
            draft = None
            with report.entry(name):
                content = text.read_text(encoding="utf-8-sig", errors="replace") if text.is_file() else None
                short = clean_texts(content, "short caption", name, report)
                draft = {"image": name, "caption": None, "short_captions": short, "regions": [], "source_id": name}
            if draft is not None:
                yield draft

    return Source(root.name, fingerprint_files([root]), drafts, FolderImages(str(root)), 200 * len(files))
