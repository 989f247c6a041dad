"""The parts of the benchmarks that measure, on the smallest input."""

from argparse import Namespace

import pytest

from benchmarks.input_pipeline import make_collator, make_loader, rate, sources
from benchmarks.loss_scaling import run_point
from benchmarks.measure import table, timed
from benchmarks.process_scaling import measure
from dataset_scripts.sample import generate_sample


def test_whole_and_chunked_loss_are_one_number():
    points = [run_point(way, size=48, width=16, device="cpu") for way in ("plain", "chunked")]
    assert points[0]["loss"] == pytest.approx(points[1]["loss"], rel=1e-6)


def test_a_step_of_one_process():
    arguments = Namespace(device="cpu", model="tiny", batch_size=2, case="typical", steps=2)
    assert len(measure(arguments, rank=0, processes=1)) == 2


def test_every_way_to_read_the_published_layout(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    generate_sample(tmp_path / "sample", train=8, test=2)
    measured = {}
    for name, data in sources(str(tmp_path / "sample" / "train")):
        loader = make_loader(data, make_collator("b16", None), batch_size=2, batches=3, workers=0)
        measured[name] = rate(loader, batches=2, warm_up=1)
    assert set(measured) == {"sample/train (layout, map-style)", "sample/train (layout, stream)"}
    for values in measured.values():
        # A batch is read and collated, and nothing else is done.
        assert 1e3 / values["images/s"] == pytest.approx(values["read ms"] + values["collate ms"])


def test_warm_up_is_not_timed():
    calls = []
    times = timed(lambda: calls.append(1), repeats=3, warm_up=2)
    assert (len(calls), len(times.wall), len(times.cpu)) == (5, 3, 3)


def test_tables_are_markdown():
    assert table([{"a": 1, "b": 2}]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
