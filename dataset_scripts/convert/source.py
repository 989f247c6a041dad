"""What can be converted: drafts of records, and where their images are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dataset_scripts.annotations import annotation_files, read_published
from dataset_scripts.download import Downloader, DownloadSettings
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.image_stores import FirstOf, FolderImages, ImageStore, MissingImage
from dataset_scripts.images import BadImage, CheckedImage
from dataset_scripts.paths import UnsafePath
from dataset_scripts.records import clean_box, clean_record, clean_regions, join_records
from dataset_scripts.report import Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.upright import turn_box, turn_of_boxes
from dataset_scripts.url_index import UrlIndex
from dataset_scripts.web_images import Img2DatasetImages, UrlImages

# A record of the schema whose ``image`` is the text that an ImageStore understands; drafts with the same one are of one
# picture and become one record. Where ``image`` names a place (a row, a member of a tar) and a picture may stand in
# several, ``picture`` may say which it is. With a key ``box_format`` its regions are still as received, with boxes in
# pixels, until the image and so its size is known; ``size`` is the width and height that these boxes refer to, where it
# was declared.
Draft = dict[str, Any]


def with_boxes(draft: Draft, image: CheckedImage, report: Report) -> Draft:
    """The draft with its regions checked and in fractions of the upright image, if they are not yet.

    A declared size that is not the image's leaves the draft without regions, which is counted.
    """
    if "box_format" not in draft:
        return draft
    rest = {name: value for name, value in draft.items() if name not in ("box_format", "size")}
    where, declared = draft["source_id"], draft.get("size")
    try:
        turn = turn_of_boxes(image.header, declared)
    except ValueError as error:
        report.bad("declared size is not the image's", where, error)
        return {**rest, "regions": []}
    regions = clean_regions(draft["regions"], where, report, draft["box_format"], declared or image.header.size)
    if turn != 1:
        turned = ((region, clean_box(turn_box(region["bbox"], turn), where, report)) for region in regions)
        regions = [{**region, "bbox": box} for region, box in turned if box is not None]
    return {**rest, "regions": regions}


def record_of(
    drafts: list[Draft], image: Callable[[], CheckedImage], report: Report
) -> tuple[dict[str, Any] | None, str | None]:
    """The record of one picture's drafts; or None and, where another try may find the image, what was wrong with it.

    Args:
        drafts: all of one picture.
        image: gives it, or raises what reading it raised.
        report: counts faults.
    """
    name = drafts[0]["source_id"]
    try:
        checked = image()
    except MissingImage as error:
        report.missing(str(error), name)
        return None, str(error)
    except BadImage as error:
        report.bad(error.reason, name, error)
        return None, error.reason
    except UnsafePath as error:
        report.bad("path leaves its root", name, error)
        return None, None
    with report.entry(name):
        joined = join_records([with_boxes(draft, checked, report) for draft in drafts])
        return {**{name: joined[name] for name in FEATURES if name != "image"}, "image": checked.as_column()}, None
    return None, None


def picture_of(draft: Draft) -> str:
    """Names the picture of a draft: drafts of one name become one record."""
    return draft.get("picture", draft["image"])


@dataclass
class Source:
    """A data set before its images are read.

    Attributes:
        name: stands in the manifest.
        revision: stands in the manifest; changes when the source changes.
        drafts: yields the records, counting what it leaves out.
        images: gives their images.
        annotation_bytes: roughly how large all drafts are, for planning.
        release: called with an image's name when it is in a shard on disk.
    """

    name: str
    revision: str
    drafts: Callable[[Report], Iterator[Draft]]
    images: ImageStore
    annotation_bytes: int
    release: Callable[[str], None] | None = None


def _finehard_drafts(files: list[str], storage_options: dict[str, Any], report: Report) -> Iterator[Draft]:
    for path in files:
        for _, where, source_id, published in read_published(path, report, storage_options):
            record = clean_record(published, source_id, report, f"{where} {source_id}", captioned=False)
            if record is not None:
                yield {"image": source_id, **record}


def finehard_source(
    root: str,
    work: Path,
    report: Report,
    images: list[str] | None = None,
    img2dataset: list[str] | None = None,
    download: DownloadSettings | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Source:
    """FineHARD's published layout.

    Args:
        root: folder or fsspec URL with ``jsonfiles``; for images by URL also ``url2key_jsons`` and, where keys are
            bare, ``coyo_image_*/*.parquet``.
        work: folder for indexes and for images that are fetched but not yet in a shard.
        report: counts faults of the URL lists.
        images: folders or URLs in which images lie under their published names; ``root/images`` by default.
        img2dataset: folders that img2dataset wrote.
        download: fetch what is in none of them, within these limits.
        storage_options: for fsspec.

    Raises:
        ValueError: nothing in the published layout is there.
    """
    options = storage_options or {}
    files = annotation_files(root, options)
    sources: list[ImageStore] = [FolderImages(folder, options) for folder in images or []]
    beside = FolderImages(f"{root.rstrip('/')}/images", options)
    if not images and (beside.exists() or not (img2dataset or download)):
        sources.append(beside)
    release = None
    if img2dataset or download:
        work.mkdir(parents=True, exist_ok=True)
        urls = UrlIndex(work / "urls.sqlite").build(root, report, options)
        for number, folder in enumerate(img2dataset or []):
            sources.append(Img2DatasetImages(Path(folder), urls, work / f"img2dataset-{number}.sqlite", report))
        if download:
            web = UrlImages(urls, Downloader(download, work / "fetched"))
            sources.append(web)
            release = web.forget
    return Source(
        name=PurePosixPath(root).name,
        revision=fingerprint(f"{root.rstrip('/')}/jsonfiles", options, times=False),
        drafts=lambda counts: _finehard_drafts(list(files), options, counts),
        images=FirstOf(sources),
        annotation_bytes=sum(files.values()),
        release=release,
    )
