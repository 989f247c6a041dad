from __future__ import annotations

import itertools
import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest
from datasets import Dataset, load_dataset
from datasets.distributed import split_dataset_by_node
from PIL import Image
from torchdata.stateful_dataloader import StatefulDataLoader

from dataset_scripts.convert import ConvertSettings, convert, finehard_source
from dataset_scripts.download import DownloadSettings
from dataset_scripts.finehard import FineHARD
from dataset_scripts.report import Report
from dataset_scripts.streaming import TrainingStream, load_training_data
from dataset_scripts.streaming import even as even_module
from dataset_scripts.streaming.even import draws_per_source
from tests.dataset_scripts.image_server import publish_urls, serving


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 records, so that 40 records have several."""
    monkeypatch.setattr(even_module, "BLOCK", 4)
    monkeypatch.setattr("dataset_scripts.streaming.endless.BLOCK", 4)


def _shards(root: Path, output: Path, size: int, kind: str = "parquet") -> str:
    source = finehard_source(str(root), output, Report())
    convert(source, output, ConvertSettings(shard_size=size, shard_format=kind, workers=2))
    return str(output)


def _ids(records: object) -> list[str]:
    return [record["source_id"] for record in records]


@pytest.fixture(scope="module")
def shards(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 records in shards of 7, 7, 7, 7, 7 and 5."""
    return _shards(sample / "train", tmp_path_factory.mktemp("shards") / "a", 7)


@pytest.fixture(scope="module")
def other(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """12 other records in two tar files."""
    return _shards(sample / "test", tmp_path_factory.mktemp("shards") / "b", 8, "webdataset")


def test_map_style_and_streams_give_the_same_records(sample: Path, shards: str, tmp_path: Path) -> None:
    expected = {record["source_id"]: record for record in load_training_data(shards)}
    assert len(expected) == 40
    tar = _shards(sample / "train", tmp_path / "tar", 9, "webdataset")
    layout = str(sample / "train")
    for source in (shards, tar):
        assert isinstance(load_training_data(source), Dataset)
        streamed = list(load_training_data(source, streaming=True))
        assert len(streamed) == len(load_training_data(source)) == 40
        assert sorted(_ids(streamed)) == sorted(expected)
        for record in streamed:
            twin = expected[record["source_id"]]
            assert isinstance(record["image"], Image.Image)
            np.testing.assert_array_equal(np.asarray(record["image"]), np.asarray(twin["image"]))
            assert (record["caption"], record["short_captions"]) == (twin["caption"], twin["short_captions"])
            for region, other_region in zip(record["regions"], twin["regions"], strict=True):
                np.testing.assert_allclose(region["bbox"], other_region["bbox"], atol=1e-6)
                assert region["negatives"] == other_region["negatives"]
    assert sorted(_ids(load_training_data(layout))) == sorted(expected)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_all_ranks_see_equally_many_and_together_everything(shards: str, world_size: int, workers: int) -> None:
    """The six uneven shards divide by none of these numbers of ranks but 2 and 3, and never evenly."""
    parts = []
    for rank in range(world_size):
        stream = load_training_data(shards, streaming=True, rank=rank, world_size=world_size)
        loader = StatefulDataLoader(stream, batch_size=4, num_workers=workers, collate_fn=list)
        parts.append([_ids(batch) for batch in loader])
        assert len(stream) == -(-40 // world_size)
    assert len({tuple(map(len, batches)) for batches in parts}) == 1  # the same steps of the same sizes
    counts = Counter(name for batches in parts for batch in batches for name in batch)
    assert len(counts) == 40
    repeated = sum(counts.values()) - 40
    assert repeated == -40 % world_size


def test_epochs_differ_and_are_reproducible(shards: str) -> None:
    def epoch(number: int, **options) -> list[str]:
        stream = load_training_data(shards, streaming=True, **options)
        stream.set_epoch(number)
        return _ids(stream)

    assert epoch(0) == epoch(0) != epoch(1)
    assert sorted(epoch(0)) == sorted(epoch(1))
    assert epoch(0) != epoch(0, seed=1)
    stream = load_training_data(shards, streaming=True)
    first = list(stream)
    assert {record["draw"] for record in first} == {0}
    stream.set_epoch(3)
    assert {record["draw"] for record in stream} == {3}
    assert _ids(stream) == epoch(3)
    # Neighbors on disk are torn apart within their block of four as well.
    stored = [
        name
        for shard in load_training_data(shards, streaming=True).sources[0]
        for name in _ids(row.values for row in shard.read(0, 99))
    ]
    follow = set(itertools.pairwise(stored))
    assert sum(pair in follow for pair in itertools.pairwise(epoch(0))) < 20


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_loader_goes_on_with_the_very_next_record(shards: str, other: str, workers: int, stop: int) -> None:
    def loader() -> StatefulDataLoader:
        stream = load_training_data([shards, other], [1, 1], streaming=True, world_size=2, rank=1)
        stream.set_epoch(2)
        return StatefulDataLoader(stream, batch_size=3, num_workers=workers, collate_fn=list)

    whole = [_ids(batch) for batch in loader()]
    interrupted = loader()
    batches = iter(interrupted)
    before = [_ids(next(batches)) for _ in range(stop)]
    state = interrupted.state_dict()
    del batches
    again = loader()
    again.load_state_dict(state)
    assert before + [_ids(batch) for batch in again] == whole


@pytest.mark.parametrize("weights", [None, [3, 1], [1, 4]])
def test_sources_are_mixed_by_their_weights(shards: str, other: str, weights) -> None:
    stream = load_training_data([shards, other], weights, streaming=True)
    own = set(_ids(load_training_data(shards)))
    drawn: list[list[str]] = []
    for epoch in range(4):
        stream.set_epoch(epoch)
        drawn.append(_ids(stream))
    expected = {None: 40, 3: 39, 1: 10}[weights and weights[0]]
    for names in drawn:
        assert len(names) == len(stream) == 52
        assert sum(name in own for name in names) == expected
    everything = Counter(name for names in drawn for name in names)
    assert len(everything) == 52
    # Passes follow each other without a gap: no record of a source is two draws ahead of another.
    for part in (own, set(everything) - own):
        counts = [everything[name] for name in part]
        assert max(counts) - min(counts) <= 1


def test_draws_sum_up() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        sizes = rng.integers(1, 50, 4).tolist()
        weights = rng.uniform(0.1, 5, 4).tolist()
        counts = draws_per_source(sizes, weights, sum(sizes))
        assert sum(counts) == sum(sizes)
        np.testing.assert_allclose(counts, np.array(weights) / sum(weights) * sum(sizes), atol=1)
        assert draws_per_source(sizes, None, sum(sizes)) == sizes


def _many_files(layout: Path, count: int) -> None:
    records = [r for path in sorted(layout.glob("jsonfiles/*.json")) for r in json.loads(path.read_text())]
    shutil.rmtree(layout / "jsonfiles")
    (layout / "jsonfiles").mkdir()
    for number in range(count):
        (layout / "jsonfiles" / f"{number}.json").write_text(json.dumps(records[number::count]))


@pytest.mark.parametrize("files", [1, 5])  # fewer and more than the four workers of both ranks
def test_the_published_layout_streams_without_end_and_without_overlap(layout: Path, files: int) -> None:
    _many_files(layout, files)
    seen: Counter[str] = Counter()
    per_rank = []
    for rank in (0, 1):
        stream = load_training_data(layout, streaming=True, rank=rank, world_size=2)
        assert stream.is_endless
        with pytest.raises(TypeError, match="max_steps"):
            len(stream)
        loader = StatefulDataLoader(stream, batch_size=1, num_workers=2, collate_fn=list)
        first_round = []
        for step, (record,) in enumerate(loader):
            if record["draw"] == 0:
                first_round.append(record["source_id"])
            if step == 120:
                break
        assert step == 120
        per_rank.append(set(first_round))
        seen.update(first_round)
    assert set(seen.values()) == {1}
    assert len(seen) == 40
    assert not per_rank[0] & per_rank[1]


@pytest.mark.parametrize("files", [1, 5])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [2, 5, 17, 40])
def test_an_endless_loader_resumes_exactly(layout: Path, other: str, files: int, workers: int, stop: int) -> None:
    _many_files(layout, files)
    next(layout.glob("images/coyo_image_0/*/*.jpg")).unlink()

    def loader() -> StatefulDataLoader:
        stream = load_training_data([layout, other], [2, 1], streaming=True)
        return StatefulDataLoader(stream, batch_size=2, num_workers=workers, collate_fn=list)

    whole = [_ids(batch) for batch, _ in zip(loader(), range(60), strict=False)]
    interrupted = loader()
    batches = iter(interrupted)
    before = [_ids(next(batches)) for _ in range(stop)]
    state = interrupted.state_dict()
    del batches
    again = loader()
    again.load_state_dict(state)
    assert before + [_ids(batch) for batch, _ in zip(again, range(60 - stop), strict=False)] == whole


def test_the_standard_way_of_datasets_works_on_the_shards_too(shards: str) -> None:
    """STACK_NOTES' exact recipe: shuffle of shards alone, split by node, StatefulDataLoader."""

    def loader(rank: int) -> StatefulDataLoader:
        stream = load_dataset(shards, split="train", streaming=True).shuffle(
            seed=1, buffer_size=1, max_buffer_input_shards=1
        )
        stream = split_dataset_by_node(stream, rank, 2)
        return StatefulDataLoader(stream, batch_size=4, num_workers=1, collate_fn=list)

    parts = [[_ids(batch) for batch in loader(rank)] for rank in (0, 1)]
    assert sorted(name for part in parts for batch in part for name in batch) == sorted(
        _ids(load_training_data(shards))
    )
    interrupted = loader(0)
    batches = iter(interrupted)
    before = [_ids(next(batches)) for _ in range(2)]
    state = interrupted.state_dict()
    del batches
    again = loader(0)
    again.load_state_dict(state)
    assert before + [_ids(batch) for batch in again] == parts[0]


def test_any_file_system_of_fsspec_serves(shards: str, layout: Path, sample: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(shards, "/set/data", recursive=True)
    memory.put(str(sample / "test"), "/layout", recursive=True)
    assert _ids(load_training_data("memory://set/data", streaming=True)) == _ids(
        load_training_data(shards, streaming=True)
    )
    assert _ids(load_training_data("memory://set", streaming=True)) == _ids(load_training_data(shards, streaming=True))
    endless = load_training_data("memory://layout", streaming=True)
    names = _ids(record for record, _ in zip(endless, range(12), strict=False))
    assert sorted(names) == sorted(_ids(load_training_data(sample / "test")))


def test_images_are_fetched_by_url_as_they_are_needed(layout: Path, tmp_path: Path) -> None:
    limits = DownloadSettings(timeout=60, retries=0, private_hosts=True)
    with serving(tmp_path / "pictures") as server:
        paths = publish_urls(layout, server, lambda number: "gone" if number in (4, 8) else "ok")
        for _ in range(2):  # the second time from the cache
            stream = load_training_data(layout, streaming=True, fetch=limits)
            names = _ids(record for record, _ in zip(stream, range(38), strict=False))
            assert sorted(names) == sorted(path for number, path in enumerate(paths) if number not in (4, 8))
        asked = {path: count for path, count in server.asked.items() if path.startswith("/ok/")}
        assert set(asked.values()) == {1}
        reader = FineHARD(root=str(layout), fetch=limits)
        assert len(list(reader.as_streaming_dataset(split="train"))) == 38
        assert reader.report().problems == {"HTTP 404": 2}
    shutil.rmtree(layout / "url2key_jsons")
    with pytest.raises(ValueError, match="names no URLs"):
        next(iter(load_training_data(layout, streaming=True, fetch=limits)))


def test_wrong_sources_say_what_is_needed(shards: str, layout: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for call, message in (
        (lambda: load_training_data([]), "no source"),
        (lambda: load_training_data(str(tmp_path / "nowhere")), "no folder"),
        (lambda: load_training_data(str(tmp_path / "empty"), streaming=True), "neither shards"),
        (lambda: load_training_data(shards, split="dev", streaming=True), "'dev'; it has those of train"),
        (lambda: load_training_data(shards, [1.0]), "streaming=True"),
        (lambda: load_training_data([shards, shards], [1.0], streaming=True), "each of 2 sources"),
        (lambda: load_training_data([shards, shards], [1.0, 0], streaming=True), "above 0"),
        (lambda: load_training_data([shards, str(layout)], streaming=True), "weights are needed"),
        (lambda: load_training_data(shards, streaming=True, rank=2, world_size=2), "rank is 2"),
        (lambda: list(load_training_data(shards, streaming=True, world_size=1).__class__([[]])), "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_state_of_other_data_is_refused(shards: str, other: str) -> None:
    state = load_training_data(shards, streaming=True).state_dict()
    for stream in (
        load_training_data(other, streaming=True),
        load_training_data(shards, streaming=True, seed=1),
        load_training_data(shards, streaming=True, world_size=2),
    ):
        with pytest.raises(ValueError, match="resume with the same"):
            stream.load_state_dict(state)


def test_a_missing_shard_is_an_error_that_names_it(shards: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    (copy / "train-00002.parquet").unlink()
    with pytest.raises(ValueError, match="train-00002"):
        load_training_data(str(copy), streaming=True)


def test_more_workers_than_records_are_refused(other: str) -> None:
    stream = load_training_data(other, streaming=True, world_size=4)
    with pytest.raises(ValueError, match="fewer workers"):
        list(StatefulDataLoader(stream, batch_size=1, num_workers=8, collate_fn=list))


def test_the_stream_can_be_pickled_for_spawned_workers(shards: str) -> None:
    stream = load_training_data(shards, streaming=True)
    assert _ids(pickle.loads(pickle.dumps(stream))) == _ids(stream)
    assert isinstance(stream, TrainingStream)
