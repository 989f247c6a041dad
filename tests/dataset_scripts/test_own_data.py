from __future__ import annotations

import csv
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from dataset_scripts.convert import ConvertSettings, Source, convert
from dataset_scripts.own_data import (
    Columns,
    coco_source,
    flickr30k_source,
    hub_source,
    referring_source,
    table_source,
    webdataset_source,
)
from dataset_scripts.own_data.__main__ import main
from dataset_scripts.own_data.flickr30k import parse_sentence
from dataset_scripts.report import Report
from dataset_scripts.streaming import load_training_data


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four images of 40 × 20 pixels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        PILImage.fromarray(np.full((20, 40, 3), 60 * number, np.uint8)).save(folder / f"{number}.jpg")
    return folder


def _converted(source: Source, tmp_path: Path) -> tuple[dict[str, dict], dict]:
    """Records by id as training reads them, and the manifest."""
    manifest = convert(source, tmp_path / "out", ConvertSettings(workers=2))
    return {record["source_id"]: record for record in load_training_data(tmp_path / "out", streaming=True)}, manifest


def _region(box: list[float], short: str, long: str | None = None, negatives: tuple = ()) -> dict:
    return {"bbox": box, "score": 1.0, "short_expr": short, "long_expr": long, "negatives": list(negatives)}


def _same(region: dict, expected: dict) -> None:
    np.testing.assert_allclose(region["bbox"], expected["bbox"], atol=1e-6)
    assert {**region, "bbox": None} == {**expected, "bbox": None}


def test_coco(pictures: Path, tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 20} for n in range(4)]
    texts = [(0, "A dog."), (0, "A dog runs "), (1, "A cat"), (2, ""), (3, "Nothing to see")]
    captions = {
        "images": images,
        "annotations": [{"id": i, "image_id": n, "caption": t} for i, (n, t) in enumerate(texts)],
    }
    instances = {
        "categories": [{"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 7, "bbox": [10, 5, 20, 10], "iscrowd": 0},
            {"id": 2, "image_id": 0, "category_id": 7, "bbox": [0, 0, 40, 20], "iscrowd": 1},
            {"id": 3, "image_id": 0, "category_id": 9, "bbox": [0, 0, 40, 20], "iscrowd": 0},
            {"id": 4, "image_id": 1, "category_id": 7, "bbox": [30, 5, 20, 10], "iscrowd": 0},
        ],
    }
    (tmp_path / "c.json").write_text(json.dumps(captions))
    (tmp_path / "i.json").write_text(json.dumps(instances))
    records, manifest = _converted(coco_source(tmp_path / "c.json", tmp_path / "i.json", str(pictures)), tmp_path)
    assert set(records) == {"0.jpg", "1.jpg", "3.jpg"}
    assert records["0.jpg"]["caption"] == "A dog. A dog runs."
    assert records["0.jpg"]["short_captions"][0] == "A dog."
    (region,) = records["0.jpg"]["regions"]
    _same(region, _region([0.25, 0.25, 0.75, 0.75], "dog"))
    assert records["1.jpg"]["regions"] == []
    assert manifest["annotations"]["problems"] == {
        "caption is missing": 1,
        "record without a caption": 1,
        "box of a crowd": 1,
        "annotation of an unknown category": 1,
    }
    assert manifest["images"]["problems"] == {"box lies outside the image": 1}
    with pytest.raises(ValueError, match="categories"):
        coco_source(tmp_path / "c.json", tmp_path / "c.json", str(pictures))


def test_coco_boxes_without_captions(pictures: Path, tmp_path: Path) -> None:
    instances = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 20} for n in range(2)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 8, "name": "red ball"}],
        "annotations": [
            {"id": i, "image_id": 0, "category_id": category, "bbox": [10, 5, 20, 10]}
            for i, category in enumerate((8, 7, 8))
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(instances))
    records, manifest = _converted(coco_source(None, path, str(pictures)), tmp_path)
    assert set(records) == {"0.jpg"}
    assert records["0.jpg"]["short_captions"] == ["a photo of red ball, dog"]
    assert records["0.jpg"]["caption"] is None
    assert [region["short_expr"] for region in records["0.jpg"]["regions"]] == ["red ball", "dog", "red ball"]
    assert manifest["annotations"]["problems"] == {"record without a caption": 1}
    del instances["images"]
    path.write_text(json.dumps(instances))
    with pytest.raises(ValueError, match=r"instances\.json has no list images"):
        coco_source(None, path, str(pictures))
    with pytest.raises(ValueError, match="neither captions nor instances"):
        coco_source(None, None, str(pictures))


def test_flickr30k_entities(pictures: Path, tmp_path: Path) -> None:
    root = tmp_path / "entities"
    (root / "Sentences").mkdir(parents=True)
    (root / "Annotations").mkdir()
    (root / "Sentences" / "0.txt").write_text(
        "[/EN#1/people A man] with [/EN#2/clothing a red hat] sees [/EN#3/people two men] .\n"
        "[/EN#1/people The tall man] is looking , says [/EN#0/notvisual someone] .\n"
    )
    (root / "Sentences" / "1.txt").write_text("[/EN#5/animals A dog] .\n")  # its boxes are missing
    (root / "Annotations" / "0.xml").write_text(
        "<annotation><size><width>40</width><height>20</height></size>"
        "<object><name>1</name><name>2</name><bndbox><xmin>4</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>"
        "<object><name>3</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>"
        "<object><name>3</name><bndbox><xmin>5</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>"
        "<object><name>4</name><scene>1</scene></object></annotation>"
    )
    records, manifest = _converted(flickr30k_source(root, str(pictures)), tmp_path)
    record = records["0.jpg"]
    assert record["caption"] == "A man with a red hat sees two men. The tall man is looking, says someone."
    assert record["short_captions"][0] == "A man with a red hat sees two men."
    box = [0.1, 0.1, 0.5, 0.5]
    for region, expected in zip(
        record["regions"], [_region(box, "A man", "The tall man"), _region(box, "a red hat", "a red hat")], strict=True
    ):
        _same(region, expected)
    assert records["1.jpg"]["regions"] == []
    assert manifest["annotations"]["problems"] == {"phrase of several boxes": 1, "boxes are missing or damaged": 1}
    with pytest.raises(ValueError, match="Sentences"):
        flickr30k_source(pictures, str(pictures))


def test_sentences_with_entities() -> None:
    text, pairs = parse_sentence("[/EN#12/people/clothing A man in blue] isn 't here .")
    assert pairs == [("12", "A man in blue")]
    assert text.startswith("A man in blue isn't here.")


@pytest.mark.parametrize("style", ["list", "lines", "coco"])
def test_referring_expressions(pictures: Path, tmp_path: Path, style: str) -> None:
    rows = [
        {"file_name": "0.jpg", "bbox": [4, 2, 16, 8], "expressions": ["dog", "the dog on the left"]},
        {"file_name": "0.jpg", "bbox": [20, 10, 20, 10], "sentences": [{"sent": "cat"}]},
        {"file_name": "1.jpg", "bbox": [0, 0, 40, 20], "caption": "all"},
        {"file_name": "2.jpg", "bbox": None, "caption": "no box"},
    ]
    path = tmp_path / "refs.json"
    if style == "list":
        path.write_text(json.dumps(rows))
    elif style == "lines":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(3)]
        for row in rows:
            row["image_id"] = int(row.pop("file_name")[0])
        path.write_text(json.dumps({"images": images, "annotations": rows}))
    records, manifest = _converted(referring_source(path, str(pictures)), tmp_path)
    assert set(records) == {"0.jpg", "1.jpg"}
    assert records["0.jpg"]["caption"] == "dog. the dog on the left. cat."
    assert records["0.jpg"]["short_captions"] == []
    first, second = records["0.jpg"]["regions"]
    _same(first, _region([0.1, 0.1, 0.5, 0.5], "dog", "the dog on the left"))
    _same(second, _region([0.5, 0.5, 1, 1], "cat", "cat"))
    assert manifest["annotations"]["problems"] == {"row without an image, a box or an expression": 1}
    with pytest.raises(ValueError, match="pickle"):
        referring_source(tmp_path / "refs(unc).p", str(pictures))


REGIONS = [
    {"bbox": [4, 2, 20, 10], "short_expr": "dog", "negatives": ["cat"]},
    {"bbox": [0, 0, 400, 20], "short_expr": "x"},
]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_tables(pictures: Path, tmp_path: Path, kind: str) -> None:
    rows = [{"path": f"{n}.jpg", "text": f"Picture {n}", "boxes": REGIONS if n == 1 else []} for n in range(4)]
    rows += [{"path": "../secret.jpg", "text": "t", "boxes": []}, {"path": "9.jpg", "text": "t", "boxes": []}]
    rows += [{"path": "", "text": "t", "boxes": []}, {"path": "3.jpg", "text": " ", "boxes": []}]
    path = tmp_path / f"table.{kind}"
    if kind in ("csv", "tsv"):
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, ["path", "text", "boxes"], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows({**row, "boxes": json.dumps(row["boxes"])} for row in rows)
    else:
        path.write_text(json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows)))
    columns = Columns(image="path", caption=None, short_caption="text", regions="boxes", box_format="xyxy")
    records, manifest = _converted(table_source(path, str(pictures), columns), tmp_path)
    assert sorted(records) == [f"{n}.jpg" for n in range(4)]
    assert records["2.jpg"]["short_captions"] == ["Picture 2"]
    (region,) = records["1.jpg"]["regions"]
    _same(region, _region([0.1, 0.1, 0.5, 0.5], "dog", negatives=("cat",)))
    assert manifest["images"]["problems"] == {
        "box lies outside the image": 1,
        "path leaves its root": 1,
        "image file is missing": 1,
    }
    assert manifest["annotations"]["problems"]["row without an image"] == 1
    with pytest.raises(ValueError, match=r"no column 'words' .* it has \['boxes', 'path', 'text'\]"):
        table_source(path, str(pictures), Columns(image="path", caption="words"))


def test_a_caption_column_of_several_captions_is_joined(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"image": "0.jpg", "caption": ["One", "Two. "]}))
    records, _ = _converted(table_source(tmp_path / "t.jsonl", str(pictures), Columns()), tmp_path)
    assert records["0.jpg"]["caption"] == "One. Two."


def test_webdataset_of_img2dataset(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number in range(4):
            key = f"00000000{number}"
            (tmp_path / f"{key}.txt").write_text(f"Text {number}")
            (tmp_path / f"{key}.json").write_text(json.dumps({"caption": f"Long text {number}", "url": "u"}))
            if number != 2:
                tar.add(pictures / f"{number}.jpg", f"{key}.jpg")
            for kind in ("txt", "json"):
                tar.add(tmp_path / f"{key}.{kind}", f"{key}.{kind}")
    shutil.copy(folder / "00000.tar", folder / "00001.tar")
    data = (folder / "00001.tar").read_bytes()
    (folder / "00001.tar").write_bytes(data[: data.index(b"000000003.jpg") + 700])
    columns = Columns(caption="json.caption", short_caption="txt")
    records, manifest = _converted(webdataset_source(folder, columns), tmp_path)
    assert {"00000/000000000", "00000/000000001", "00000/000000003", "00001/000000000"} <= set(records)
    assert records["00000/000000003"]["caption"] == "Long text 3"
    assert records["00000/000000003"]["short_captions"] == ["Text 3"]
    assert np.asarray(records["00000/000000003"]["image"]).mean() == pytest.approx(180, abs=2)
    problems = manifest["annotations"]["problems"]
    assert problems["sample without an image"] == 2
    assert problems["tar is cut or damaged"] == 1
    with pytest.raises(ValueError, match=r"no .*tar"):
        webdataset_source(pictures, columns)


@pytest.mark.parametrize("where", ["header", "between samples", "empty"])
def test_a_webdataset_tar_cut_anywhere_is_counted(pictures: Path, tmp_path: Path, where: str) -> None:
    """tarfile itself says nothing about the first two."""
    folder = tmp_path / "tars"
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number in range(3):
            (tmp_path / "t.txt").write_text(f"Text {number}")
            tar.add(pictures / f"{number}.jpg", f"{number}.jpg")
            tar.add(tmp_path / "t.txt", f"{number}.txt")
    with tarfile.open(folder / "00000.tar") as tar:
        third = tar.getmembers()[4].offset
    data = (folder / "00000.tar").read_bytes()
    (folder / "00000.tar").write_bytes(data[: {"header": third + 90, "between samples": third, "empty": 0}[where]])
    source = webdataset_source(folder, Columns(caption="txt"))
    if where == "empty":
        with pytest.raises(ValueError, match=r"nothing of tars could be converted; .*tar is cut or damaged: 1"):
            convert(source, tmp_path / "out", ConvertSettings())
    else:
        manifest = convert(source, tmp_path / "out", ConvertSettings())
        assert manifest["totals"]["records"] == 2
        assert manifest["annotations"]["problems"] == {"tar is cut or damaged": 1}
    with pytest.raises(ValueError, match=r"tar is cut or damaged in 00000\.tar"):
        list(webdataset_source(folder, Columns(caption="txt")).drafts(Report("raise")))


def test_hub_data_sets_by_a_mapping_of_columns(pictures: Path, tmp_path: Path) -> None:
    rows = {
        "img": [str(pictures / f"{n}.jpg") for n in range(4)],
        "meta": [{"en": f"Picture {n}", "n": n} for n in range(4)],
    }
    features = Features({"img": Image(), "meta": {"en": Value("string"), "n": Value("int32")}})
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    columns = Columns(image="img", caption="meta.en", source_id="meta.n")
    records, _ = _converted(hub_source(str(tmp_path / "set"), columns), tmp_path)
    assert sorted(records) == ["0", "1", "2", "3"]
    assert records["3"]["caption"] == "Picture 3"
    assert np.asarray(records["3"]["image"]).mean() == pytest.approx(180, abs=2)
    for wrong, message in (
        (Columns(image="pic", caption="meta.en"), "'pic'"),
        (Columns(image="meta", caption="meta.en"), "not an Image"),
    ):
        with pytest.raises(ValueError, match=message):
            hub_source(str(tmp_path / "set"), wrong)


def test_the_command_line(pictures: Path, tmp_path: Path, capsys) -> None:
    (pictures / "table.csv").write_text("image,text\n0.jpg,Zero\n1.jpg,One\n7.jpg,Seven\n")
    command = ["table", str(pictures / "table.csv"), "--output", str(tmp_path / "out"), "--split", "dev"]
    main([*command, "--short-caption-column", "text"])
    assert "2 of 3 records (66.7%)" in capsys.readouterr().out
    assert len(load_training_data(tmp_path / "out", split="dev")) == 2
    shutil.copy(pictures / "0.jpg", pictures / "7.jpg")
    main([*command, "--short-caption-column", "text", "--retry"])
    assert len(load_training_data(tmp_path / "out", split="dev", streaming=True)) == 3
    for arguments in ([*command, "--captions", "x"], ["unknown"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    with pytest.raises(ValueError, match="--caption-column"):
        main(command)


def test_rows_of_one_picture_become_one_record(pictures: Path, tmp_path: Path) -> None:
    """Five captions a picture, as COCO and Flickr have them: in a table, and in a data set of the Hub that repeats it."""
    texts = [[f"caption {n} of picture {p}" for n in range(5)] for p in range(4)]
    lines = ["image,comment", *(f"{p}.jpg,{texts[p][n]}" for n in range(5) for p in range(4))]
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    columns = Columns(caption=None, short_caption="comment")
    records, manifest = _converted(table_source(tmp_path / "captions.txt", str(pictures), columns), tmp_path / "table")
    assert {name: record["short_captions"] for name, record in records.items()} == {
        f"{p}.jpg": texts[p] for p in range(4)
    }
    assert manifest["totals"]["records"] == 4
    rows = {
        "image": [str(pictures / f"{p}.jpg") for n in range(5) for p in range(4)],
        "comment": [texts[p][n] for n in range(5) for p in range(4)],
    }
    features = Features({"image": Image(), "comment": Value("string")})
    data = Dataset.from_dict(rows, features=features)
    data.map(lambda row: row).to_parquet(tmp_path / "set" / "train.parquet")
    records, _ = _converted(hub_source(str(tmp_path / "set"), columns), tmp_path / "hub")
    assert sorted(record["short_captions"] for record in records.values()) == texts


def test_broken_utf8_in_a_text_column_costs_its_row(pictures: Path, tmp_path: Path) -> None:
    images = [{"bytes": (pictures / f"{n}.jpg").read_bytes(), "path": None} for n in range(4)]
    texts = pa.array([b"zero", b"on\xff", b"two", b"three"], pa.binary()).view(pa.string())
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"image": pa.array(images, kind), "text": texts}), tmp_path / "set" / "train.parquet")
    columns = Columns(caption=None, short_caption="text")
    records, manifest = _converted(hub_source(str(tmp_path / "set"), columns), tmp_path)
    assert sorted(record["short_captions"][0] for record in records.values()) == ["three", "two", "zero"]
    assert sum(manifest["annotations"]["problems"].values()) == 1
    assert "train[1]" in next(iter(manifest["annotations"]["examples"].values()))[0]
