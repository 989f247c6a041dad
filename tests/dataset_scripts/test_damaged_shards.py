"""Shards that are cut or damaged, in a training stream, map-style and in validation."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torchdata.stateful_dataloader import StatefulDataLoader

from dataset_scripts.convert import ConvertSettings, convert, finehard_source
from dataset_scripts.report import Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.streaming import load_training_data
from dataset_scripts.validate.check import check


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset_scripts.streaming.even.BLOCK", 4)
    monkeypatch.setattr("dataset_scripts.streaming.endless.BLOCK", 4)


@pytest.fixture(scope="module")
def whole(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """40 records in shards of 15, 15 and 10, as parquet and as tar."""
    folders = {}
    for kind in ("parquet", "webdataset"):
        folders[kind] = tmp_path_factory.mktemp("shards") / kind
        source = finehard_source(str(sample / "train"), folders[kind], Report())
        convert(source, folders[kind], ConvertSettings(shard_size=15, shard_format=kind, workers=2))
    return folders


def _members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return tar.getmembers()


def _in_the_header(path: Path) -> int:
    return _members(path)[14].offset + 100  # of the .jpg of sample 7


def _in_the_picture(path: Path) -> int:
    return _members(path)[14].offset_data + 100


def _between_members(path: Path) -> int:
    return _members(path)[15].offset  # sample 7 has its .jpg and lacks its .json


def _between_samples(path: Path) -> int:
    return _members(path)[14].offset


CUTS = [
    pytest.param("webdataset", _in_the_header, 7, id="tar, in a header"),
    pytest.param("webdataset", _in_the_picture, 7, id="tar, in a picture"),
    pytest.param("webdataset", _between_members, 7, id="tar, in a sample"),
    pytest.param("webdataset", _between_samples, 7, id="tar, between samples"),
    pytest.param("webdataset", lambda path: 0, 0, id="tar, empty"),
    pytest.param("parquet", lambda path: path.stat().st_size // 2, 0, id="parquet, in the middle"),
    pytest.param("parquet", lambda path: path.stat().st_size - 2, 0, id="parquet, before its end"),
    pytest.param("parquet", lambda path: 0, 0, id="parquet, empty"),
]


def _cut(folder: Path, tmp_path: Path, where: Callable[[Path], int], manifest: bool) -> Path:
    """A copy with its second shard, of 15 records, cut."""
    copy = Path(shutil.copytree(folder, tmp_path / "cut"))
    (shard,) = copy.glob("train-00001.*")
    shard.write_bytes(shard.read_bytes()[: where(shard)])
    if not manifest:
        (copy / "train-manifest.json").unlink()
    return copy


def _stored(folder: Path, name: str) -> list[str]:
    (path,) = folder.glob(f"{name}.*")
    if path.suffix == ".parquet":
        return pq.read_table(path, columns=["source_id"])["source_id"].to_pylist()
    with tarfile.open(path) as tar:
        return [json.load(tar.extractfile(member))["source_id"] for member in tar if member.name.endswith("json")]


def _names(records: object) -> list[str]:
    return [record["source_id"] for record in records]


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "no manifest"])
@pytest.mark.parametrize(("kind", "where", "readable"), CUTS)
def test_a_cut_shard_is_listed_and_the_rest_goes_on(
    whole: dict[str, Path], tmp_path: Path, kind: str, where, readable: int, manifest: bool, caplog
) -> None:
    cut = _cut(whole[kind], tmp_path, where, manifest)
    suffix = "parquet" if kind == "parquet" else "tar"
    name = f"train-00001.{suffix}"
    stream = load_training_data(cut, streaming=True)
    lost = 15 - readable if manifest else 0  # without a manifest nobody knows how many there were
    assert stream.report.problems == Counter({"shard is cut or damaged": 1, "record lost with its shard": lost})
    (listed,) = stream.report.examples["shard is cut or damaged"]
    assert listed.startswith(f"{name}[{readable}]: ")
    assert f"{name}[{readable}]" in caplog.text
    lost_names = _stored(whole[kind], "train-00001")[readable:]
    kept = {name for shard in range(3) for name in _stored(whole[kind], f"train-0000{shard}")} - set(lost_names)
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        counts = Counter(_names(stream))
        assert set(counts) == kept
        assert sum(counts.values()) == len(stream) == 25 + readable + lost
    assert stream.report.problems["record lost with its shard"] == lost  # counted once, not every epoch
    assert sorted(_names(load_training_data(cut))) == sorted(kept)
    findings = check(str(cut))
    assert findings.errors.problems["shard is cut or damaged"] == 1
    assert findings.errors.problems["record lost with its shard"] == lost
    assert findings.errors.kept["records"] == 25 + readable
    for streaming in (True, False):
        with pytest.raises(ValueError, match=rf"shard is cut or damaged in {name}\[{readable}\].*on_bad='skip'"):
            load_training_data(cut, streaming=streaming, on_bad="raise")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_ranks_take_equal_steps_whoever_has_the_damaged_copy(
    whole: dict[str, Path], tmp_path: Path, kind: str, workers: int
) -> None:
    cut = _cut(whole[kind], tmp_path, lambda path: path.stat().st_size // 2, True)
    lengths, sound, seen = set(), [], []
    for rank in range(3):
        for folder in (whole[kind], cut):
            stream = load_training_data(folder, streaming=True, rank=rank, world_size=3)
            batches = list(StatefulDataLoader(stream, batch_size=2, num_workers=workers, collate_fn=_names))
            lengths.add(tuple(map(len, batches)))
            (sound if folder == whole[kind] else seen).extend(name for batch in batches for name in batch)
    assert len(lengths) == 1
    # What can be read stands where it stood; only the places of lost records have others.
    lost = set(sound) - set(seen)
    assert 0 < len(lost) <= 15
    assert [a for a in sound if a not in lost] == [b for a, b in zip(sound, seen, strict=True) if a not in lost]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mended", [False, True])
def test_a_stream_with_a_cut_shard_resumes_exactly(
    whole: dict[str, Path], tmp_path: Path, workers: int, mended: bool
) -> None:
    cut = _cut(whole["webdataset"], tmp_path, _in_the_picture, True)

    def loader(folder: Path) -> StatefulDataLoader:
        stream = load_training_data(folder, streaming=True, rank=1, world_size=2)
        return StatefulDataLoader(stream, batch_size=3, num_workers=workers, collate_fn=_names)

    expected = list(loader(cut))
    interrupted = loader(cut)
    batches = iter(interrupted)
    before = [next(batches) for _ in range(3)]
    state = interrupted.state_dict()
    del batches
    again = loader(whole["webdataset"] if mended else cut)
    again.load_state_dict(state)
    after = list(again)
    if mended:
        expected = expected[:3] + list(loader(whole["webdataset"]))[3:]
    assert before + after == expected


def _damage(path: Path) -> int:
    """Makes one record in the middle of a shard unreadable, and one picture, without changing the file's size."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".tar":
        by_name = {member.name: member for member in _members(path)}
        data[by_name["000004.json"].offset_data] = ord("x")
        picture = by_name["000009.jpg"]
        start, stop = picture.offset_data, picture.offset_data + picture.size
        data[start:stop] = b"<html>".ljust(picture.size)
    path.write_bytes(data)
    return 2


def test_single_records_that_cannot_be_read_are_replaced_and_named(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole["webdataset"], tmp_path / "damaged"))
    _damage(folder / "train-00000.tar")
    names = _stored(whole["webdataset"], "train-00000")
    for world_size in (1, 2):
        found: list[str] = []
        problems: Counter[str] = Counter()
        for rank in range(world_size):
            stream = load_training_data(folder, streaming=True, rank=rank, world_size=world_size, verify=False)
            assert not stream.report.problems  # the manifest and the sizes are right
            found += _names(stream)
            problems += stream.report.problems
        assert len(found) == 40
        assert set(names) - set(found) == {names[4], names[9]}
        assert set(problems) == {"record cannot be read", "HTML or XML instead of an image"}
    stream = load_training_data(folder, streaming=True, verify=False)
    list(stream)
    assert stream.report.examples["record cannot be read"][0].startswith("train-00000.tar[4]: ")
    assert stream.report.examples["HTML or XML instead of an image"][0].startswith(f"train-00000.tar[9] {names[9]}")
    with pytest.raises(ValueError, match=r"(record cannot be read|HTML or XML instead of an image) in"):
        list(load_training_data(folder, streaming=True, on_bad="raise", verify=False))


def test_a_damaged_row_group_costs_no_other(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole["parquet"], tmp_path / "damaged"))
    path = folder / "train-00000.parquet"
    table = pq.read_table(path)
    size = path.stat().st_size
    pq.write_table(table.cast(FEATURES.arrow_schema), path, row_group_size=5, compression="gzip")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)  # rows 5 to 9
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    manifest = json.loads((folder / "train-manifest.json").read_text())
    manifest["shards"][0]["bytes"] = len(data)
    (folder / "train-manifest.json").write_text(json.dumps(manifest))
    assert len(data) != size
    stream = load_training_data(folder, streaming=True, verify=False)
    found = _names(stream)
    names = _stored(whole["parquet"], "train-00000")
    assert len(found) == 40
    assert set(names) - set(found) == set(names[5:10])
    assert stream.report.problems == {"record cannot be read": 5}


def test_a_stream_of_nothing_usable_says_so_instead_of_going_on_forever(
    tmp_path: Path, whole: dict[str, Path]
) -> None:
    rows = pq.read_table(whole["parquet"] / "train-00002.parquet").to_pylist()
    for row in rows:
        row["image"]["bytes"] = b"<html></html>"
    pq.write_table(pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema), tmp_path / "train-00000.parquet")
    with pytest.raises(ValueError, match="no usable record"):
        list(load_training_data(tmp_path, streaming=True))


def test_in_an_endless_mixture_lost_records_are_passed_over(
    layout: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    cut = _cut(whole["webdataset"], tmp_path, _in_the_picture, True)

    def loader() -> StatefulDataLoader:
        stream = load_training_data([layout, cut], [1, 3], streaming=True)
        return StatefulDataLoader(stream, batch_size=2, collate_fn=_names)

    expected = [batch for batch, _ in zip(loader(), range(60), strict=False)]
    interrupted = loader()
    batches = iter(interrupted)
    before = [next(batches) for _ in range(11)]
    again = loader()
    again.load_state_dict(interrupted.state_dict())
    assert before + [batch for batch, _ in zip(again, range(49), strict=False)] == expected
