"""The way from paths to training records."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import fsspec
from datasets import Dataset, concatenate_datasets
from datasets.exceptions import DatasetGenerationError

from dataset_scripts.download import DownloadSettings
from dataset_scripts.finehard import FineHARD
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.images import BadImage, check_image
from dataset_scripts.prefetch import prefetch
from dataset_scripts.records import RULES
from dataset_scripts.report import OnBad, Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.streaming.decoding import Decoder, Row
from dataset_scripts.streaming.endless import AnnotationFile
from dataset_scripts.streaming.shard_files import ShardPath, find_shards
from dataset_scripts.streaming.stream import TrainingStream

logger = logging.getLogger(__name__)

_READERS = 4  # threads that decode what no manifest vouches for
_BATCH = 500  # records in memory until they are written to the cache


def _place(source: str) -> str:
    """A folder or URL; ``owner/name`` that is no folder is a data set on the Hugging Face Hub."""
    if "://" in source or os.path.isdir(source):
        return source
    if source.count("/") == 1 and not source.startswith((".", "/", "~")):
        return f"hf://datasets/{source}"
    raise ValueError(
        f"received the training data {source!r}, which is no folder, no URL and no data set owner/name on the Hub; "
        "python -m dataset_scripts.sample --output DIR generates one"
    )


def _is_layout(place: str, storage_options: dict[str, Any]) -> bool:
    filesystem, base = fsspec.core.url_to_fs(place, **storage_options)
    base = base.rstrip("/")
    return filesystem.isdir(f"{base}/jsonfiles") or bool(filesystem.glob(f"{base}/*/jsonfiles"))


def _files(
    source: str,
    split: str,
    fetch: DownloadSettings | None,
    on_bad: OnBad,
    verify: bool,
    storage_options: dict[str, Any],
) -> list[ShardPath] | list[AnnotationFile]:
    place = _place(source)
    if not _is_layout(place, storage_options):
        shards = find_shards(place, split, storage_options, verify)
        if shards:
            return shards
        raise ValueError(
            f"{place} holds neither shards ({split}-*.parquet or .tar) nor FineHARD's published layout (jsonfiles/); "
            "python -m dataset_scripts.own_data converts other data sets"
        )
    reader = FineHARD(root=place, fetch=fetch, on_bad=on_bad, storage_options=storage_options)
    for generator in reader._split_generators(None):
        if str(generator.name) == split:
            images = reader.images(generator.gen_kwargs["folder"])
            return [AnnotationFile(path, images, on_bad, storage_options) for path in generator.gen_kwargs["files"]]
    raise ValueError(f"{place} has no split {split!r}; it has {sorted(reader._roots())}")


def _rows(shards: list[ShardPath], on_bad: OnBad, state: str, report_file: str) -> Iterator[dict[str, Any]]:
    """Encoded records that passed the gate; ``state`` stands in the cache's key, so that rewritten files are read again."""
    decode = Decoder(Report(on_bad))

    def upright(item: tuple[Row, dict[str, Any]]) -> dict[str, Any]:
        data = check_image(item[1]["image"]["bytes"], min_side=1).data
        return {**item[1], "image": {"path": None, "bytes": data}}

    for shard in shards:
        rows = shard.read(0, shard.records)
        judged = ((row, record) for row in rows if (record := decode.judged(row)) is not None)
        if shard.sha256:  # what was written had been decoded, and brought into the form that `datasets` decodes alike
            yield from (record for _, record in judged)
            continue
        for (row, record), image in prefetch(judged, upright, _READERS):
            try:
                yield image.result()
            except BadImage as error:
                decode.undecodable(row, record, error)
    decode.report.save(Path(report_file))


def _prepared(prepare: Callable[[], Any]) -> Any:
    """What ``prepare`` gives; ``datasets`` wraps the errors of a reader in one of its own."""
    try:
        return prepare()
    except DatasetGenerationError as error:
        raise (error.__cause__ if isinstance(error.__cause__, ValueError) else error) from None


def _map_style(
    source: str,
    split: str,
    fetch: DownloadSettings | None,
    on_bad: OnBad,
    verify: bool,
    report: Report,
    storage_options: dict[str, Any],
) -> Dataset:
    place = _place(source)
    if _is_layout(place, storage_options):
        reader = FineHARD(root=place, fetch=fetch, on_bad=on_bad, storage_options=storage_options)
        _prepared(reader.download_and_prepare)
        report.merge(reader.report(split))
        return reader.as_dataset(split=split)
    shards = find_shards(place, split, storage_options, verify)
    for shard in shards:
        if shard.damage:
            Decoder(report).announce(shard)
    shards = [shard for shard in shards if shard.readable != 0]
    if not shards:
        raise ValueError(
            f"{place} holds neither readable shards of the split {split!r} nor FineHARD's published layout"
        )
    arguments = {"shards": shards, "on_bad": on_bad, "state": fingerprint(place, storage_options) + RULES}
    key = hashlib.sha256(repr([place, split, verify, arguments]).encode()).hexdigest()[:16]
    file = Path(datasets.config.HF_DATASETS_CACHE) / "shard_reports" / f"{key}.json"
    arguments["report_file"] = str(file)
    records = _prepared(
        lambda: Dataset.from_generator(_rows, gen_kwargs=arguments, features=FEATURES, writer_batch_size=_BATCH)
    )
    if file.is_file():
        report.merge(Report.from_dict(json.loads(file.read_text(encoding="utf-8"))))
    if not len(records):
        raise ValueError(f"no record of the {len(shards)} shards in {place} is usable: {dict(report.problems)}")
    return records


def load_training_data(
    sources: str | Path | Sequence[str | Path],
    weights: Sequence[float] | None = None,
    *,
    streaming: bool = False,
    split: str = "train",
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    fetch: DownloadSettings | None = None,
    on_bad: OnBad = "skip",
    verify: bool = True,
    report: Report | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Dataset | TrainingStream:
    """Training records from one or several sources, as a map-style set or as a stream.

    A source is a folder or an fsspec URL (``hf://datasets/owner/name``, or ``owner/name`` for short) with either shards
    of the schema, parquet or tar, as ``python -m dataset_scripts.convert`` and ``… .own_data`` write them, or with
    FineHARD's published layout. Sets without regions, for stage 1, are no different.

    Args:
        sources: one or several.
        weights: shares of the sources in what is drawn, in any unit; None: every record once an epoch. Streaming only.
        streaming: False gives a ``datasets.Dataset`` of all records, concatenated; the published layout is first
            prepared in the cache of ``datasets``. True gives a :class:`TrainingStream` of this rank's records.
        split: of each source.
        seed: of the order. Streaming only: a map-style set is shuffled by its sampler.
        rank, world_size: of the process. Streaming only, likewise.
        fetch: limits for fetching images of a published layout by URL, where they are not beside it.
        on_bad: ``"skip"`` counts and logs faults, such as a cut shard, an inverted box or a broken image, and goes on;
            ``"raise"`` stops at the first one. A stream has its counts in its attribute ``report``.
        verify: compare each shard with the SHA-256 of its manifest when a process first opens it; one that is another
            file is left out, or an error. Costs one reading of the file.
        report: takes the counts of a map-style set.
        storage_options: for fsspec, such as ``{"token": …}``.

    Raises:
        ValueError: a source is not there, has no such split, or weights do not fit; or a fault, with ``on_bad="raise"``.
    """
    names = [str(sources)] if isinstance(sources, str | Path) else [str(source) for source in sources]
    if not names:
        raise ValueError("received no source of training data; at least one folder, URL or Hub data set is needed")
    options = storage_options or {}
    if streaming:
        files = [_files(name, split, fetch, on_bad, verify, options) for name in names]
        return TrainingStream(files, weights, seed, rank, world_size, on_bad)
    if weights is not None:
        raise ValueError("weights need streaming=True; a map-style set holds every record of every source once")
    report, parts = report or Report(), []
    for name in names:
        own = Report(on_bad)
        parts.append(_map_style(name, split, fetch, on_bad, verify, own, options))
        if own.problems:
            logger.warning("%s: left out or changed: %s", name, dict(own.problems))
        report.merge(own)
    return concatenate_datasets(parts)
