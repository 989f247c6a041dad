"""FineHARD, and every data set in its published layout, as a ``datasets`` builder: map-style or streaming."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
import fsspec
from datasets.builder import Key

from dataset_scripts.annotations import annotation_files, read_annotation_file
from dataset_scripts.download import DownloadSettings
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.image_stores import FirstOf, FolderImages, ImageStore
from dataset_scripts.records import RULES
from dataset_scripts.report import OnBad, Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.web_images import fetched_images

logger = logging.getLogger(__name__)


@dataclass
class FineHARDConfig(datasets.BuilderConfig):
    """See :class:`FineHARD`."""

    root: str = ""
    images: str | None = None
    fetch: DownloadSettings | None = None
    on_bad: OnBad = "skip"
    report_dir: str | None = None
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.root:
            raise ValueError("FineHARD needs root=…, a folder or URL that holds jsonfiles/ and images/")
        self.root = str(self.root)
        Report(self.on_bad)  # refuses an unknown policy now instead of in a worker

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        # The cache key of datasets knows the configuration alone; files and rules that change would go stale.
        state = {"root_state": fingerprint(self.root, self.storage_options), "rules": RULES}
        if self.images:
            state["images_state"] = fingerprint(self.images, self.storage_options)
        return super().create_config_id({**config_kwargs, **state}, custom_features)


class FineHARD(datasets.GeneratorBasedBuilder):
    """The published layout as records of :data:`~dataset_scripts.schema.FEATURES`.

    ``FineHARD(root=…).as_streaming_dataset(split="train")`` reads as it goes and stores nothing;
    ``FineHARD(root=…)``, then ``.download_and_prepare()`` and ``.as_dataset(split="train")`` give a map-style set
    from the cache of ``datasets`` (``num_proc`` reads annotation files in parallel). The cache is built anew when files
    under the root change. One annotation file is one shard.

    A record whose image is missing or unusable is left out, a region with an unusable box is left out of its record,
    and all of it is counted by reason. :meth:`report` gives the counts. Every process that reads an annotation file
    writes the file's counts to ``report_dir`` when it is through with it, so they include the workers of a DataLoader
    and of ``num_proc``:

    - prepared: the counts are complete after ``download_and_prepare``, and stay when the cache is used again;
    - streaming: they cover the annotation files read to their end so far, and become complete with one full pass.
      A second pass replaces them and does not add to them.

    Args:
        root: folder or fsspec URL with ``jsonfiles/*.json`` and ``images/``, which becomes the split ``train``; or a
            folder of such folders, each of which becomes a split of its name.
        images: folder or URL where the images are, if not in ``root/images``.
        fetch: get images that are not there by their URL as they are needed, within these limits, and keep them in the
            cache of ``datasets``. Needs ``url2key_jsons`` under the root, which is read once into an index.
        on_bad: ``"skip"`` counts a fault and goes on, ``"raise"`` stops at the first one with a ValueError. A missing
            image is no fault: URLs die, and it is counted either way.
        report_dir: folder for the counts; by default one in the cache of ``datasets``.
        storage_options: for fsspec, such as ``{"token": …}``.

    Raises:
        ValueError: nothing in the published layout is found under ``root``.
    """

    BUILDER_CONFIG_CLASS = FineHARDConfig
    DEFAULT_WRITER_BATCH_SIZE = 500  # images stay in memory until they are written
    config: FineHARDConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="FineHARD: images with long and short captions, region boxes, expressions and hard negatives",
            homepage="https://huggingface.co/datasets/qihoo360/FineHARD",
            features=FEATURES,
        )

    def _roots(self) -> dict[str, str]:
        """Split name → folder that holds ``jsonfiles``."""
        filesystem, base = fsspec.core.url_to_fs(self.config.root, **self.config.storage_options)
        base = base.rstrip("/")
        if filesystem.isdir(f"{base}/jsonfiles"):
            return {"train": base}
        folders = sorted(filesystem.ls(base, detail=False)) if filesystem.isdir(base) else []
        found = {PurePosixPath(one).name: one for one in folders if filesystem.isdir(f"{one}/jsonfiles")}
        if not found:
            raise ValueError(
                f"{self.config.root} is not in FineHARD's published layout: neither it nor a folder in it has jsonfiles/"
            )
        return found

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        filesystem, _ = fsspec.core.url_to_fs(self.config.root, **self.config.storage_options)
        generators = []
        for split, folder in self._roots().items():
            folder = filesystem.unstrip_protocol(folder)
            files = list(annotation_files(folder, self.config.storage_options))
            generators.append(datasets.SplitGenerator(split, gen_kwargs={"files": files, "folder": folder}))
        return generators

    def _generate_shards(self, files: list[str], folder: str) -> Iterator[str]:
        yield from files

    def images(self, folder: str) -> ImageStore:
        """Where the images of the published layout in ``folder`` are."""
        near = FolderImages(self.config.images or f"{folder}/images", self.config.storage_options)
        if self.config.fetch is None:
            return near
        cache = Path(self._cache_dir_root) / "finehard_fetched"
        web = fetched_images(folder, cache, self.config.fetch, self.config.storage_options)
        return FirstOf([near, web]) if near.exists() else web

    def _generate_examples(self, files: list[str], folder: str) -> Iterator[tuple[Key, dict[str, Any]]]:
        images = self.images(folder)
        for shard, path in enumerate(files):
            report = Report(self.config.on_bad)
            for number, record in read_annotation_file(path, images, report, self.config.storage_options):
                yield Key(shard, number), record
            report.save(self._report_file(path))
            if report.problems:
                logger.warning("%s: left out or changed: %s", PurePosixPath(path).name, dict(report.problems))

    def _report_folder(self) -> Path:
        if self.config.report_dir:
            return Path(self.config.report_dir)
        return Path(self._cache_dir_root) / "finehard_reports" / self.config_id.replace("/", "_")

    def _report_file(self, path: str) -> Path:
        name = f"{PurePosixPath(path).stem}-{hashlib.sha256(path.encode()).hexdigest()[:12]}.json"
        return self._report_folder() / name

    def report(self, split: str = "train") -> Report:
        """Counts over the annotation files of a split that were read to their end so far, by whichever process."""
        total = Report()
        for generator in self._split_generators(None):
            if str(generator.name) != split:
                continue
            files = [self._report_file(path) for path in generator.gen_kwargs["files"]]
            done = [path for path in files if path.is_file()]
            for path in done:
                total.merge(Report.from_dict(json.loads(path.read_text(encoding="utf-8"))))
            total.keep("annotation files", len(files))
            total.keep("annotation files read to their end", len(done))
            return total
        raise ValueError(f"split {split!r} is not there; {self.config.root} has {sorted(self._roots())}")
