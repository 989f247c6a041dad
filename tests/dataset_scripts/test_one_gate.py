"""One table of odd records, through every reader: training map-style and streamed, of three formats, and evaluation."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from dataset_scripts.records import clean_row
from dataset_scripts.report import Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.streaming import load_training_data
from dataset_scripts.validate.check import check
from eval.tasks import make_task

LONG = "A long caption about the picture. It has two sentences."


def _picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def _region(**changes: Any) -> dict[str, Any]:
    region = {"bbox": [0.25, 0.25, 0.5, 0.75], "score": 0.5, "short_expr": "a dog", "long_expr": "a big dog"}
    return {**region, "negatives": ["a cat", "a cow"], **changes}


@dataclass
class Odd:
    """One row of the table.

    Attributes:
        record: of the schema, without image and source_id.
        faults: reasons that must be counted, each with the number.
        kept: what must come out; None if the record is left out.
        stored: whether the columns of a shard can hold it.
    """

    record: dict[str, Any]
    faults: dict[str, int]
    kept: dict[str, Any] | None
    stored: bool = True


def _odd(faults: dict[str, int], keeps: dict[str, Any] | None = None, stored: bool = True, **changes: Any) -> Odd:
    """A record with changes, of which everything stays but what ``keeps`` says."""
    record = {"caption": LONG, "short_captions": ["A dog."], "regions": [_region()]} | changes
    return Odd(record, faults, {**record, **keeps} if keeps is not None else None, stored)


def _odd_region(reason: str, stored: bool = True, **changes: Any) -> Odd:
    """A record with a good region and one that must be left out."""
    bad = _region(**changes)
    return _odd({reason: 1}, {"regions": [_region()]}, stored, regions=[_region(), bad])


def _odd_negatives(negatives: Any, kept: list[str], faults: dict[str, int], stored: bool = True) -> Odd:
    regions = [_region(negatives=negatives)]
    return _odd(faults, {"regions": [_region(negatives=kept)]}, stored, regions=regions)


OUTSIDE, INVERTED = "box lies outside the image", "box is inverted or empty"
NUMBERS, FOUR = "box has a coordinate that is no finite number", "box is no list of four numbers"

TABLE: dict[str, Odd] = {
    "sound": _odd({}, {}),
    "no regions": _odd({}, {}, regions=[]),
    "five captions": _odd({}, {}, short_captions=[f"Caption {number}." for number in range(5)]),
    "a caption twice": _odd(
        {"short caption is repeated": 1}, {"short_captions": ["One.", "Two."]}, short_captions=["One.", "Two.", "One."]
    ),
    "short alone": _odd({}, {}, caption=None),
    "long alone": _odd({}, {}, short_captions=[]),
    "no caption": _odd({"record without a caption": 1}, caption=None, short_captions=[]),
    "nan and None": _odd(
        {"caption is missing": 1, "short caption is missing": 2, "record without a caption": 1},
        caption="nan",
        short_captions=["None", "NULL"],
    ),
    "invisible": _odd(
        {"caption is missing": 1, "short caption is missing": 2},
        {"caption": None, "short_captions": ["A dog."]},
        caption="\u200b",
        short_captions=["\ufeff", " \u200b\n", "A dog."],
    ),
    "byte-order mark": _odd({}, {"caption": "A cat."}, caption="\ufeffA cat.\u200b "),
    "broken encoding": _odd({"caption has broken encoding": 1}, {"caption": None}, caption="caf\ufffd"),
    "caption is a number": _odd({"caption is no text": 1}, {"caption": None}, False, caption=7),
    "pixels": _odd_region(OUTSIDE, bbox=[10.0, 20.0, 110.0, 220.0]),
    "half outside": _odd_region(OUTSIDE, bbox=[0.5, 0.5, 1.5, 0.75]),
    "a little outside": _odd(
        {}, {"regions": [_region(bbox=[0.0, 0.25, 1.0, 1.0])]}, regions=[_region(bbox=[-0.004, 0.25, 1.005, 1.0])]
    ),
    "inverted": _odd_region(INVERTED, bbox=[0.5, 0.25, 0.25, 0.75]),
    "empty": _odd_region(INVERTED, bbox=[0.5, 0.25, 0.5, 0.75]),
    "empty in float32": _odd_region(INVERTED, bbox=[0.5, 0.25, 0.5 + 1e-11, 0.75]),
    "NaN": _odd_region(NUMBERS, bbox=[math.nan, 0.25, 0.5, 0.75]),
    "infinite in float32": _odd_region(NUMBERS, bbox=[0.25, 0.25, 1e300, 0.75]),
    "score infinite in float32": _odd_region("score is no finite number", score=1e300),
    "an integer of 400 digits": _odd_region(NUMBERS, False, bbox=[0.25, 0.25, 10**400, 0.75]),
    "a text in a box": _odd_region(NUMBERS, False, bbox=[0.25, "0.25", 0.5, 0.75]),
    "true in a box": _odd_region(NUMBERS, False, bbox=[0, 0, True, True]),
    "three numbers": _odd_region(FOUR, False, bbox=[0.25, 0.25, 0.5]),
    "null box": _odd_region(FOUR, bbox=None),
    "null region": _odd({"region is no object": 1}, {"regions": [_region()]}, regions=[None, _region()]),
    "null regions": _odd({"regions are null": 1}, {"regions": []}, regions=None),
    "no expression": _odd_region("region without an expression", short_expr=None, long_expr=None, negatives=[]),
    "negatives are null": _odd_negatives(None, [], {}),
    "negatives as a dict": _odd_negatives({"1": "a cow", "0": "a cat"}, ["a cow", "a cat"], {}, stored=False),
    "a negative is its positive": _odd_negatives(["a cat", "A Dog"], ["a cat"], {"negative equals its positive": 1}),
    "a negative twice": _odd_negatives(["a cat", "A CAT", "a cat"], ["a cat"], {"negative is repeated": 2}),
    "negatives that say nothing": _odd_negatives(["nan", "", "a cat"], ["a cat"], {"negative is missing": 2}),
    "a negative is a number": _odd_negatives([3, "a cat"], ["a cat"], {"negative is no text": 1}, stored=False),
    "negatives as a text": _odd_negatives("a cat", [], {"negatives are neither a list nor a dict": 1}, stored=False),
    "negatives of nothing": _odd(
        {"negatives without a short expression": 1},
        {"regions": [_region(short_expr=None, negatives=[])]},
        regions=[_region(short_expr=None)],
    ),
    "null image": _odd({"record without an image": 1}),
}
SOUND = Odd(TABLE["sound"].record, {}, TABLE["sound"].record)


def _published(name: str, record: dict[str, Any], layout: bool) -> dict[str, Any]:
    """As the published layout has it; ``layout``: with the flag and the dict that FineHARD has."""
    regions = record["regions"]
    infos = None
    if regions is not None:
        infos = []
        for region in regions:
            if region is None:
                infos.append(None)
                continue
            box = region["bbox"]
            info = {"bbox": [*box, region["score"]] if isinstance(box, list) and len(box) == 4 else box}
            info |= {key: region[key] for key in ("short_expr", "long_expr")}
            negatives = region["negatives"]
            if layout and isinstance(negatives, list):
                negatives = {str(number): text for number, text in enumerate(negatives)}
            info["short_expr_negs"] = negatives
            if layout:
                info["flag_short_neg"] = 1
            infos.append(info)
    return {
        "f_path": None if name == "null image" else f"grit-20m/data-12m/{name}.jpg",
        "caption": record["caption"],
        "short_captions": record["short_captions"],
        "bbox_info": infos,
    }


def _write_layout(root: Path, rows: dict[str, Odd], name: str = "part.json") -> None:
    (root / "jsonfiles").mkdir(parents=True)
    (root / "images").mkdir()
    for number, key in enumerate(rows):
        (root / "images" / f"{key}.jpg").write_bytes(_picture(number))
    records = [_published(key, odd.record, layout=number % 2 == 0) for number, (key, odd) in enumerate(rows.items())]
    lines = "\n".join(json.dumps(record) for record in records)
    (root / "jsonfiles" / name).write_text(lines if name.endswith("l") else json.dumps(records))


def _rows(rows: dict[str, Odd]) -> list[dict[str, Any]]:
    return [
        {
            "image": None if key == "null image" else {"path": None, "bytes": _picture(number)},
            **odd.record,
            "source_id": f"{key}.jpg",
        }
        for number, (key, odd) in enumerate(rows.items())
    ]


def _write_parquet(root: Path, rows: dict[str, Odd]) -> None:
    root.mkdir()
    pq.write_table(pa.Table.from_pylist(_rows(rows), schema=FEATURES.arrow_schema), root / "train-00000.parquet")


def _write_tar(root: Path, rows: dict[str, Odd]) -> None:
    root.mkdir()
    with tarfile.open(root / "train-00000.tar", "w") as tar:
        for number, row in enumerate(_rows(rows)):
            image = row.pop("image")
            for kind, data in (("jpg", image["bytes"] if image else b""), ("json", json.dumps(row).encode())):
                member = tarfile.TarInfo(f"{number:06d}.{kind}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _comparable(record: dict[str, Any], source_id: str) -> dict[str, Any]:
    regions = [
        {**region, "bbox": pytest.approx(region["bbox"], abs=1e-7), "score": pytest.approx(region["score"])}
        for region in record["regions"]
    ]
    return {
        **{name: record[name] for name in ("caption", "short_captions")},
        "regions": regions,
        "source_id": source_id,
    }


Read = tuple[dict[str, dict[str, Any]], Counter[str]]


def _by_name(records: Any) -> dict[str, dict[str, Any]]:
    return {record["source_id"]: {k: v for k, v in record.items() if k not in ("image", "draw")} for record in records}


def _streamed(root: Path) -> Read:
    stream = load_training_data(root, streaming=True)
    records = {}
    for number, record in enumerate(stream):
        records |= _by_name([record])
        if number > 400:  # an endless stream; often enough for every record to have come
            break
    return records, stream.report.problems


def _map_style(root: Path) -> Read:
    report = Report()
    return _by_name(load_training_data(root, report=report)), report.problems


def _evaluated(root: Path) -> Read:
    task = make_task("retrieval", {"data": root, "on_bad": "skip"})
    return {
        record.image.path.name: {
            "caption": record.caption,
            "short_captions": record.short_captions,
            "regions": record.regions,
            "source_id": record.image.path.name,
        }
        for record in task.load()
    }, task.report.problems


WRITERS: dict[str, Callable[[Path, dict[str, Odd]], None]] = {
    "layout": _write_layout,
    "lines": lambda root, rows: _write_layout(root, rows, "part.jsonl"),
    "parquet": _write_parquet,
    "tar": _write_tar,
}
READERS: dict[str, Callable[[Path], Read]] = {"streamed": _streamed, "map-style": _map_style, "evaluated": _evaluated}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", WRITERS)
def test_every_reader_gives_the_same_records_and_counts(form: str, reader: str, tmp_path: Path) -> None:
    rows = {key: odd for key, odd in TABLE.items() if odd.stored or form != "parquet"}
    WRITERS[form](tmp_path / "data", rows)
    if reader == "evaluated" and form in ("parquet", "tar"):
        pytest.skip("the evaluation reads shards through `datasets`; see below")
    found, problems = READERS[reader](tmp_path / "data")
    expected = {f"{key}.jpg": _comparable(odd.kept, f"{key}.jpg") for key, odd in rows.items() if odd.kept is not None}
    assert set(found) == set(expected)
    for name, record in expected.items():
        assert found[name] == record
    assert problems == sum((Counter(odd.faults) for odd in rows.values()), Counter())


def test_the_evaluation_of_a_data_set_gives_the_same(tmp_path: Path) -> None:
    rows = {key: odd for key, odd in TABLE.items() if odd.stored}
    _write_parquet(tmp_path / "data", rows)
    task = make_task("retrieval", {"hub": str(tmp_path / "data"), "split": "train", "on_bad": "skip"})
    expected = [odd.kept for odd in rows.values() if odd.kept is not None]
    records = task.load()
    assert len(records) == len(expected)
    for record, odd in zip(records, expected, strict=True):
        twin = _comparable(odd, "")
        assert (record.caption, record.short_captions) == (twin["caption"], twin["short_captions"])
        assert record.regions == twin["regions"]
    assert task.report.problems == sum((Counter(odd.faults) for odd in rows.values()), Counter())


def test_validation_counts_the_same(tmp_path: Path) -> None:
    rows = {key: odd for key, odd in TABLE.items() if odd.stored}
    _write_parquet(tmp_path / "data", rows)
    findings = check(str(tmp_path / "data"))
    assert findings.errors.problems == sum((Counter(odd.faults) for odd in rows.values()), Counter())


ERRORS = [
    key for key, odd in TABLE.items() if any("missing" not in f and "short caption" not in f for f in odd.faults)
]


@pytest.mark.parametrize("key", ERRORS)
def test_with_raise_every_fault_is_an_error_that_names_the_record(key: str, tmp_path: Path) -> None:
    odd = TABLE[key]
    rows = {key: odd, "sound": SOUND}
    named = rf"{key}\.jpg|part\.json\[0\]"
    _write_layout(tmp_path / "layout", rows)
    readers = [
        lambda: load_training_data(tmp_path / "layout", on_bad="raise"),
        lambda: list(
            zip(load_training_data(tmp_path / "layout", streaming=True, on_bad="raise"), range(9), strict=False)
        ),
        lambda: make_task("retrieval", {"data": tmp_path / "layout"}).load(),
    ]
    if odd.stored:
        _write_parquet(tmp_path / "shards", rows)
        readers += [
            lambda: load_training_data(tmp_path / "shards", on_bad="raise"),
            lambda: list(load_training_data(tmp_path / "shards", streaming=True, on_bad="raise")),
        ]
    for read in readers:
        with pytest.raises(ValueError, match=named):
            read()


def test_what_passed_once_passes_again_unchanged() -> None:
    for key, odd in TABLE.items():
        row = {"image": {"bytes": b"x"}, "source_id": key, **odd.record}
        first = clean_row(row, "here", Report())
        if first is not None:
            again = Report("raise")
            assert clean_row(first, "here", again) == first
            assert not again.problems
            table = pa.Table.from_pylist([first], schema=FEATURES.arrow_schema)  # the columns hold just that
            assert clean_row(table.to_pylist()[0], "here", again) == first


def test_shards_with_one_short_caption_are_read(tmp_path: Path) -> None:
    """Those written before there was a list."""
    rows = [
        {**row, "short_caption": row.pop("short_captions")[0]} for row in _rows({"a": SOUND, "b": SOUND, "c": SOUND})
    ]
    features = {name: feature for name, feature in FEATURES.items() if name != "short_captions"}
    schema = type(FEATURES)({**features, "short_caption": FEATURES["caption"]}).arrow_schema
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "data" / "train-00000.parquet")
    records = load_training_data(tmp_path / "data")
    assert isinstance(records, Dataset)
    assert records["short_captions"] == [["A dog."]] * 3
    assert [record["short_captions"] for record in load_training_data(tmp_path / "data", streaming=True)] == [
        ["A dog."]
    ] * 3
    task = make_task("retrieval", {"hub": str(tmp_path / "data"), "split": "train"})
    assert [record.short_captions for record in task.load()] == [["A dog."]] * 3
