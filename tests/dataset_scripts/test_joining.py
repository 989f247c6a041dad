"""Several rows of one picture become one record: captions, boxes and counts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from dataset_scripts.convert import ConvertSettings, Source, convert
from dataset_scripts.own_data import Columns, hub_source, table_source
from dataset_scripts.records import join_records
from dataset_scripts.streaming import load_training_data


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three images of 40 × 20 pixels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        PILImage.fromarray(np.full((20, 40, 3), 60 * number, np.uint8)).save(folder / f"{number}.jpg")
    return folder


def _converted(source: Source, output: Path, **settings: object) -> tuple[dict[str, dict], dict]:
    manifest = convert(source, output, ConvertSettings(workers=2, **settings))
    return {record["source_id"]: record for record in load_training_data(output, streaming=True)}, manifest


def _table(path: Path, rows: list[dict]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_five_rows_a_picture_are_five_captions(pictures: Path, tmp_path: Path) -> None:
    rows = [{"file": f"{n}.jpg", "text": f"Caption {i} of {n}."} for i in range(5) for n in range(3)]
    columns = Columns(image="file", caption=None, short_caption="text")
    source = table_source(_table(tmp_path / "t.csv", rows), str(pictures), columns)
    records, manifest = _converted(source, tmp_path / "out")
    assert set(records) == {"0.jpg", "1.jpg", "2.jpg"}
    for number in range(3):
        record = records[f"{number}.jpg"]
        assert record["short_captions"] == [f"Caption {i} of {number}." for i in range(5)]
        assert record["caption"] is None
    kept = manifest["images"]["kept"]
    assert (kept["records tried"], kept["records kept"]) == (3, 3)
    assert kept["records joined to another one of their picture"] == 12
    assert not manifest["images"]["problems"]


def test_long_captions_become_one_text_and_short_ones_too(pictures: Path, tmp_path: Path) -> None:
    rows = [{"file": "0.jpg", "text": text} for text in ("A dog runs", "A dog.", "A dog runs")]
    source = table_source(
        _table(tmp_path / "t.csv", rows), str(pictures), Columns(image="file", caption="text", short_caption=None)
    )
    records, manifest = _converted(source, tmp_path / "out")
    assert records["0.jpg"]["caption"] == "A dog runs. A dog."
    assert records["0.jpg"]["short_captions"] == ["A dog runs", "A dog."]
    assert manifest["images"]["problems"] == {"record is repeated": 1}
    assert manifest["images"]["kept"]["records tried"] == 2


def test_boxes_of_all_rows_are_kept_each_in_the_size_of_its_row(pictures: Path, tmp_path: Path) -> None:
    boxes = [[10, 5, 20, 10], [30, 5, 40, 10], [20, 10, 40, 20], [0, 0, 40, 20]]
    rows = [
        {
            "file": "0.jpg",
            "text": f"Caption {number}.",
            "boxes": json.dumps([{"bbox": box, "short_expr": f"box {number}"}]),
            "w": [40, "", 40, 80][number],
            "h": [20, "", 20, 90][number],
        }
        for number, box in enumerate(boxes)
    ]
    columns = Columns("file", None, "text", "boxes", box_format="xyxy", width="w", height="h")
    records, manifest = _converted(
        table_source(_table(tmp_path / "t.csv", rows), str(pictures), columns), tmp_path / "out"
    )
    regions = records["0.jpg"]["regions"]
    assert [region["short_expr"] for region in regions] == ["box 0", "box 1", "box 2"]
    np.testing.assert_allclose(
        [region["bbox"] for region in regions], [[0.25, 0.25, 0.5, 0.5], [0.75, 0.25, 1, 0.5], [0.5, 0.5, 1, 1]]
    )
    assert sum(manifest["images"]["problems"].values()) == 1  # the last row's size is of another picture
    assert len(records["0.jpg"]["short_captions"]) == 4


def test_rows_that_repeat_a_picture_are_known_by_its_bytes(pictures: Path, tmp_path: Path) -> None:
    data = [(pictures / f"{n}.jpg").read_bytes() for n in range(3)]
    rows = [{"image": {"path": None, "bytes": data[n % 3]}, "text": f"Caption {n}."} for n in range(9)]
    Dataset.from_list(rows, features=Features({"image": Image(), "text": Value("string")})).to_parquet(
        tmp_path / "hub" / "data" / "train-00000-of-00001.parquet"
    )
    columns = Columns("image", None, "text")
    records, _ = _converted(hub_source(str(tmp_path / "hub"), columns), tmp_path / "out")
    captions = sorted(tuple(record["short_captions"]) for record in records.values())
    assert captions == [tuple(f"Caption {n + i}." for i in (0, 3, 6)) for n in range(3)]


def test_a_missing_picture_is_one_record_left_out_and_found_with_all_its_rows(pictures: Path, tmp_path: Path) -> None:
    rows = [{"file": f"{n}.jpg", "text": f"Caption {i} of {n}."} for i in range(5) for n in range(3)]
    table = _table(tmp_path / "t.csv", rows)
    source = table_source(table, str(pictures), Columns(image="file", caption=None, short_caption="text"))
    (pictures / "1.jpg").rename(tmp_path / "away.jpg")
    records, manifest = _converted(source, tmp_path / "out")
    assert set(records) == {"0.jpg", "2.jpg"}
    assert manifest["images"]["problems"] == {"image file is missing": 1}
    assert manifest["images"]["kept"]["records tried"] == 3
    (tmp_path / "away.jpg").rename(pictures / "1.jpg")
    manifest = convert(source, tmp_path / "out", ConvertSettings(workers=2), retry=True)
    records = {record["source_id"]: record for record in load_training_data(tmp_path / "out", streaming=True)}
    assert len(records["1.jpg"]["short_captions"]) == 5
    kept = manifest["images"]["kept"]
    assert (kept["records tried"], kept["records kept"], manifest["images"]["problems"]) == (3, 3, {})


def test_a_name_of_several_pictures_is_a_fault(pictures: Path, tmp_path: Path) -> None:
    rows = [
        {"file": f"{n % 3}.jpg", "text": f"Caption {n}.", "id": "twice" if n % 3 < 2 else "once"} for n in range(6)
    ]
    source = table_source(
        _table(tmp_path / "t.csv", rows), str(pictures), Columns("file", None, "text", source_id="id")
    )
    _, manifest = _converted(source, tmp_path / "out")
    assert manifest["annotations"]["problems"] == {"source_id of several pictures": 1}
    assert manifest["annotations"]["examples"] == {"source_id of several pictures": ["twice"]}
    with pytest.raises(ValueError, match="source_id of several pictures in twice"):
        _converted(source, tmp_path / "strict", on_bad="raise")


def test_one_record_stays_as_it_is() -> None:
    record = {"caption": "A dog", "short_captions": [], "regions": [], "source_id": "x"}
    assert join_records([record]) is record
    assert join_records([record, {**record, "caption": None, "short_captions": ["A dog"]}]) == {
        **record,
        "short_captions": ["A dog"],
    }
