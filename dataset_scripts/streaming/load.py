"""The way from paths to training records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
from datasets import Dataset, concatenate_datasets, load_dataset

from dataset_scripts.download import DownloadSettings
from dataset_scripts.finehard import FineHARD
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.report import OnBad, Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.streaming.decoding import Decoder
from dataset_scripts.streaming.endless import AnnotationFile
from dataset_scripts.streaming.shard_files import LostRecord, ShardPath, find_shards
from dataset_scripts.streaming.stream import TrainingStream


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
    source: str, split: str, fetch: DownloadSettings | None, on_bad: OnBad, storage_options: dict[str, Any]
) -> list[ShardPath] | list[AnnotationFile]:
    place = _place(source)
    if not _is_layout(place, storage_options):
        shards = find_shards(place, split, storage_options)
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


def _rows(shards: list[ShardPath], on_bad: OnBad, state: str) -> Iterator[dict[str, Any]]:
    """Of tar shards; ``state`` stands in the cache's key, so that rewritten files are read again."""
    decode = Decoder(Report(on_bad))
    for shard in shards:
        for row in shard.read(0, shard.records):
            if isinstance(row, LostRecord):
                decode(row)
            else:
                yield row


def _map_style(
    source: str, split: str, fetch: DownloadSettings | None, on_bad: OnBad, storage_options: dict[str, Any]
) -> Dataset:
    place = _place(source)
    if _is_layout(place, storage_options):
        reader = FineHARD(root=place, fetch=fetch, on_bad=on_bad, storage_options=storage_options)
        reader.download_and_prepare()
        return reader.as_dataset(split=split)
    shards = find_shards(place, split, storage_options)
    for shard in shards:
        if shard.damage:
            Decoder(Report(on_bad)).announce(shard)
    shards = [shard for shard in shards if shard.readable != 0]
    if not shards:
        raise ValueError(
            f"{place} holds neither readable shards of the split {split!r} nor FineHARD's published layout"
        )
    paths = [shard.path.removeprefix("file://") for shard in shards]
    if paths[0].endswith(".parquet"):
        return load_dataset("parquet", data_files=paths, split="train", features=FEATURES)
    arguments = {"shards": shards, "on_bad": on_bad, "state": fingerprint(place, storage_options)}
    return Dataset.from_generator(_rows, gen_kwargs=arguments, features=FEATURES)


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
        on_bad: ``"skip"`` counts and logs faults, such as a cut shard or a broken image, and goes on; ``"raise"`` stops
            at the first one. A stream has its counts in ``report``.
        storage_options: for fsspec, such as ``{"token": …}``.

    Raises:
        ValueError: a source is not there, has no such split, or weights do not fit; or a fault, with ``on_bad="raise"``.
    """
    names = [str(sources)] if isinstance(sources, str | Path) else [str(source) for source in sources]
    if not names:
        raise ValueError("received no source of training data; at least one folder, URL or Hub data set is needed")
    options = storage_options or {}
    if streaming:
        files = [_files(name, split, fetch, on_bad, options) for name in names]
        return TrainingStream(files, weights, seed, rank, world_size, on_bad)
    if weights is not None:
        raise ValueError("weights need streaming=True; a map-style set holds every record of every source once")
    return concatenate_datasets([_map_style(name, split, fetch, on_bad, options) for name in names])
