"""What curation reads: folders, tables, tars, COCO and the published layout, whole or damaged."""

import io
import json
import pickle
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_scripts.curation.engine.input import InputSettings, plan_units, read_unit
from dataset_scripts.curation.engine.pipeline import curate
from dataset_scripts.curation.engine.recipe import make_recipe
from tests.dataset_scripts.curation.curation_models import scene, write_scenes
from tests.dataset_scripts.curation.engine.pipeline_runs import read


def encoded(i):
    buffer = io.BytesIO()
    scene(i)[0].save(buffer, "PNG")
    return buffer.getvalue()


def records_of(place, kind="auto", limit=None, **settings):
    """Records by source_id, in shards of three, and all counts."""
    source = InputSettings(kind=kind, **settings).open(str(place))
    with tempfile.TemporaryDirectory() as folder:
        units, report = plan_units(source, Path(folder) / "plan", 3, limit, seed=0)
        assert all(unit.size <= 3 for unit in units)
        images = pickle.loads(pickle.dumps(source.images))  # another process reads
        rows = [row for unit in units for row in read_unit(unit, images, report)]
    assert len({row["source_id"] for row in rows}) == len(rows)
    return {row["source_id"]: row for row in sorted(rows, key=lambda row: row["source_id"])}, report


def tar_of(path, number):
    with tarfile.open(path, "w") as tar:
        for i in range(number):
            for suffix, data in (("json", b"{}"), ("png", encoded(i)), ("txt", f"text {i}".encode())):
                member = tarfile.TarInfo(f"{i:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_folders_parquet_and_published_layouts_are_found_by_their_looks(tmp_path, finehard):
    folder = write_scenes(tmp_path / "images", 5)
    (folder / "0001.txt").write_text("alt text\n")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.md").write_text("not read")
    rows, report = records_of(folder)
    assert list(rows) == [f"{i:04d}.png" for i in range(5)]
    assert [r["short_captions"] for r in rows.values()] == [[], ["alt text"], [], [], []]
    assert report.problems == {"not an image": 1}

    table = pa.table({"jpg": [encoded(i) for i in range(7)], "txt": list("abcdefg"), "key": list(range(7))})
    (tmp_path / "parquet").mkdir()
    pq.write_table(table, tmp_path / "parquet" / "a.parquet", row_group_size=2)
    columns = {"image": "jpg", "short_caption": "txt", "source_id": "key"}
    rows, _ = records_of(tmp_path / "parquet", columns=columns)
    assert [(name, r["short_captions"]) for name, r in rows.items()] == [
        (str(i), [c]) for i, c in enumerate("abcdefg")
    ]
    assert [r["image"]["bytes"] for r in rows.values()] == [encoded(i) for i in range(7)]
    assert set(records_of(tmp_path / "parquet", columns=columns, limit=4)[0]) == set("0123")
    with pytest.raises(ValueError, match="has no column 'image'"):
        records_of(tmp_path / "parquet")

    tar_of(tmp_path / "s.tar", 4)
    rows, _ = records_of(tmp_path / "s.tar")
    assert [(name, r["short_captions"]) for name, r in rows.items()] == [
        (f"s/{i:05d}", [f"text {i}"]) for i in range(4)
    ]

    rows, _ = records_of(finehard)
    assert len(rows) == 10
    assert next(iter(rows.values()))["regions"][0]["score"] == pytest.approx(0.9)


def test_a_flipped_bit_in_a_tar_costs_one_record_and_is_in_the_report(tmp_path):
    """A second reader of tars lost half of the records to it, and counted nothing."""
    tar_of(tmp_path / "s.tar", 20)
    data = bytearray((tmp_path / "s.tar").read_bytes())
    data[data.index(b"00010.png")] ^= 1
    (tmp_path / "s.tar").write_bytes(data)
    recipe = make_recipe({"shard_size": 8, "steps": {"expressions": {}}})
    report = curate(recipe, tmp_path / "s.tar", tmp_path / "out", workers=1)
    assert report["read"] == report["stages"]["input"]["records"] == len(read(tmp_path / "out")) == 19
    assert report["stages"]["input"]["failures"] == {"tar is cut or damaged": 1, "sample without an image": 1}


def test_data_sets_of_others_are_read_by_the_converters_code(tmp_path):
    """COCO: turned pictures, several captions; a table: rows of one picture are one record."""
    folder = write_scenes(tmp_path / "images", 3)
    sides = scene(0)[0].size
    images = [{"id": i, "file_name": f"{i:04d}.png", "width": sides[0], "height": sides[1]} for i in range(3)]
    boxes = [{"id": 1, "image_id": 0, "category_id": 7, "bbox": [0, 0, sides[0] / 2, sides[1]]}]
    categories = [{"id": 7, "name": "red thing"}]
    captions = [{"id": i, "image_id": 1, "caption": text} for i, text in enumerate(("One.", "Two."))]
    (tmp_path / "i.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    (tmp_path / "c.json").write_text(json.dumps({"images": images, "annotations": captions}))
    options = {"images": str(folder)}
    rows, report = records_of(tmp_path / "i.json", "coco", options=options)
    assert [r["short_captions"] for r in rows.values()] == [["a photo of red thing"], [], []]  # to be recaptioned
    (region,) = rows["0000.png"]["regions"]
    assert (region["bbox"], region["short_expr"]) == ([0, 0, 0.5, 1], "red thing")
    both, _ = records_of(tmp_path / "i.json", "coco", options={**options, "captions": str(tmp_path / "c.json")})
    assert [r["short_captions"] for r in both.values()] == [[], ["One.", "Two."], []]
    alone, _ = records_of(tmp_path / "c.json", "coco", options=options)
    assert [r["short_captions"] for r in alone.values()] == [[], ["One.", "Two."], []]
    assert not report.problems

    (folder / "t.csv").write_text("image,short_caption\n0000.png,One\n0001.png,Other\n0000.png,Two\n0000.png,Two\n")
    rows, report = records_of(folder / "t.csv")
    assert {name: row["short_captions"] for name, row in rows.items()} == {
        "0000.png": ["One", "Two"],
        "0001.png": ["Other"],
    }
    assert report.problems == {"record is repeated": 1}
    with pytest.raises(ValueError, match=r"needs the options \['images'\] and has no options \['pictures'\]"):
        records_of(tmp_path / "i.json", "coco", options={"pictures": "x"})
    with pytest.raises(ValueError, match="leave columns out"):
        records_of(tmp_path / "i.json", "coco", options=options, columns={"image": "x"})


def test_paths_from_data_stay_in_their_folder(tmp_path, finehard):
    (tmp_path / "root" / "jsonfiles").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(encoded(0))
    entry = {"f_path": "../secret.jpg", "caption": "x"}
    (tmp_path / "root" / "jsonfiles" / "a.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match=r"no record that could be used: \{'path leaves its root': 1\}"):
        records_of(tmp_path / "root")


def test_nothing_to_read_is_explained(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        InputSettings().open(str(tmp_path / "x"))
    with pytest.raises(ValueError, match="neither jsonfiles"):
        InputSettings().open(str(tmp_path))
