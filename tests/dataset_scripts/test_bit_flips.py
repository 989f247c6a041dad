"""Shards in which single bits have changed: the records are what was written, or the change is counted."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from dataset_scripts.convert import ConvertSettings, convert, finehard_source
from dataset_scripts.report import Report
from dataset_scripts.streaming.decoding import Decoder
from dataset_scripts.streaming.shard_files import find_shards

FLIPS = 200


@pytest.fixture(scope="module", params=["parquet", "webdataset"])
def written(request: pytest.FixtureRequest, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 records in one shard."""
    folder = tmp_path_factory.mktemp("flips") / request.param
    source = finehard_source(str(sample / "test"), folder, Report())
    convert(source, folder, ConvertSettings(shard_format=request.param, workers=2))
    return folder


def _read(folder: Path, verify: bool) -> tuple[list[dict], Report]:
    decode = Decoder(Report())
    records = []
    for shard in find_shards(str(folder), "train", verify=verify):
        if shard.damage:
            decode.announce(shard)
        records += [decode.judged(row) for row in shard.read(0, shard.records)]
    return records, decode.report


def _flipped(written: Path, tmp_path: Path, seed: int) -> Path:
    """A copy with one bit changed."""
    folder = Path(shutil.copytree(written, tmp_path / str(seed)))
    (path,) = folder.glob("train-00000.*")
    data = bytearray(path.read_bytes())
    bit = random.Random(seed).randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return folder


def test_a_shard_that_its_manifest_does_not_know_is_not_read(written: Path, tmp_path: Path) -> None:
    sound, report = _read(written, verify=True)
    assert not report.problems
    assert len(sound) == 12
    for seed in range(FLIPS):
        folder = _flipped(written, tmp_path, seed)
        records, report = _read(folder, verify=True)
        assert records == [None] * 12
        assert report.problems == {"record cannot be read": 12}
        assert "is not the file in its manifest" in report.examples["record cannot be read"][0]
        shutil.rmtree(folder)


def _outcome(folder: Path) -> list[dict] | str:
    """The records, or what was said of their damage."""
    try:
        records, report = _read(folder, verify=False)
    except ValueError as error:  # a column has another name
        return str(error)
    return str(report) if report.problems else records


def test_without_a_manifest_pages_of_parquet_know_themselves(written: Path, tmp_path: Path) -> None:
    """What lies outside of pages (names, statistics, offsets) either does not matter or makes the file unreadable."""
    if not list(written.glob("*.parquet")):
        pytest.skip("a tar file has no checksums of its contents")
    (written / "train-manifest.json").rename(tmp_path / "manifest.json")
    try:
        sound, _ = _read(written, verify=False)
        for seed in range(FLIPS):
            folder = _flipped(written, tmp_path, seed)
            outcome = _outcome(folder)
            assert outcome == sound or "train-00000" in outcome, f"bit {seed} is silent"
            shutil.rmtree(folder)
    finally:
        (tmp_path / "manifest.json").rename(written / "train-manifest.json")
