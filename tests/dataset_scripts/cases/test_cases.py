"""Inputs that people really have, as they have them: what becomes of each, by the command line.

Each folder beside this file stands for a kind; the comment says which.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_scripts.own_data.__main__ import main
from dataset_scripts.streaming import load_training_data
from fgclip.command_line import run_command

CASES = Path(__file__).parent


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture):
    """convert(case, *arguments) → records by id, and what was printed; a refusal ends with its one line."""

    def run(case: str, *arguments: str) -> tuple[dict[str, dict], str]:
        folder, output = tmp_path / "case", tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        if not folder.exists():
            shutil.copytree(CASES / case, folder)
        words = [str(folder / word) if (folder / word).exists() else word for word in arguments]
        code = None
        try:
            run_command(main, [*words, "--output", str(output), "--workers", "1"])
        except SystemExit as stopped:
            code = stopped.code
        if code is not None:
            assert code == 2
            (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
            return {}, line
        records = {record["source_id"]: record for record in load_training_data(output, streaming=True)}
        return records, capsys.readouterr().out

    return run


TABLE = ("--images", "images", "--image-column", "file", "--short-caption-column", "text")
COCO = ("--images", "images")
HUB = ("--caption-column", "caption", "--regions-column", "objects", "--box-format", "xywh")


def color_at_box(record: dict) -> np.ndarray:
    """(3,) mean color of the middle of the first box."""
    image = np.asarray(record["image"].convert("RGB"), dtype=float)
    height, width = image.shape[:2]
    x1, y1, x2, y2 = record["regions"][0]["bbox"]
    x, y = int((x1 + x2) / 2 * width), int((y1 + y2) / 2 * height)
    return image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))


def test_boxes_turn_with_their_picture(convert) -> None:
    records, _ = convert("01-exif-coco", "coco", "--instances", "instances.json", *COCO)
    assert set(records) == {"phone.jpg", "plain.jpg"}
    for record in records.values():
        red, green, blue = color_at_box(record)
        assert red > 150
        assert max(green, blue) < 100


def test_ids_of_two_files_put_together_are_refused(convert) -> None:
    _, said = convert("02-duplicate-image-ids", "coco", "--instances", "instances.json", *COCO)
    assert "images[1]" in said
    assert "the same image id 0" in said


@pytest.mark.parametrize("file", ["lvis.json", "lvis_with_file_name.json"])
def test_lvis(convert, file: str) -> None:
    records, _ = convert("03-lvis", "coco", "--instances", file, *COCO)
    (record,) = records.values()
    assert record["source_id"] == ("000000391895.jpg" if "with" in file else "train2017/000000391895.jpg")
    assert [region["short_expr"] for region in record["regions"]] == ["bow (decorative ribbons)"]
    assert record["short_captions"] == ["a photo of bow (decorative ribbons)"]


def test_boxes_in_fractions_are_refused_where_pixels_are_declared(convert) -> None:
    _, said = convert("04-coco-fraction-boxes", "coco", "--instances", "instances.json", *COCO)
    assert "unit is fractions" in said


def test_tsv_has_no_quoting(convert) -> None:
    records, _ = convert("05-tsv-quote", "table", "t.tsv", *TABLE)
    assert sorted(records) == [f"{number}.png" for number in range(6)]
    assert records["1.png"]["short_captions"] == ['"no smoking, said the sign']


def test_a_list_in_a_cell_is_several_captions(convert) -> None:
    columns = ("--images", "images", "--image-column", "filename", "--caption-column", "raw")
    records, _ = convert("07-list-in-a-cell", "table", "flickr_annotations.csv", *columns)
    assert records["1.png"]["short_captions"] == ["A red box on blue 1.", "Two colours, 1."]
    assert records["1.png"]["caption"] == "A red box on blue 1. Two colours, 1."


def test_coverage_counts_records(convert) -> None:
    """Boxes of the picture before it was resized, whose size stands beside them: they are left out either way."""
    command = (
        "webdataset",
        "tars",
        "--short-caption-column",
        "txt",
        "--regions-column",
        "json.regions",
        "--box-format",
        "xyxy",
    )
    records, said = convert("09-resized-pixels", *command)
    assert "1 of 1 records" in said
    assert "box lies outside the image" in said
    size = ("--width-column", "json.original_width", "--height-column", "json.original_height")
    records, said = convert("09-resized-pixels", *command, *size)
    assert [record["regions"] for record in records.values()] == [[]]
    assert "1 of 1 records" in said
    assert "640" in said
    assert "256" in said


def test_what_says_nothing_is_no_caption(convert, tmp_path: Path) -> None:
    shutil.copytree(CASES / "10-odd-captions", tmp_path / "case")
    (tmp_path / "case/images").mkdir()
    for number in range(16):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"case/images/ü {number}.png")
    records, said = convert("10-odd-captions", "table", "t.jsonl", *TABLE)
    kept = {int(name[2:-4]): record["short_captions"] for name, record in records.items()}
    assert sorted(kept) == [0, 1, 2, 4, 5, 9, 10, 11, 12, 13, 14, 15]
    assert kept[14] == ["a bom inside"]
    assert "record without a caption" in said


def test_every_mode_of_picture_is_converted(convert) -> None:
    records, _ = convert("11-alpha-and-16-bit", "table", "t.csv", *TABLE)
    assert len(records) == 6
    assert all(record["image"].mode == "RGB" for record in records.values())


@pytest.mark.parametrize("file", ["t.CSV", "t.csv"])
def test_tables_of_windows(convert, file: str) -> None:
    records, said = convert("12-windows-csv", "table", file, *TABLE, "--encoding", "cp1252")
    assert {name: record["short_captions"] for name, record in records.items()} == {
        "sub/a.png": ["a café"],
        "b.png": ["a red box"],
    }
    records, said = convert("12-windows-csv", "table", file, *TABLE)
    assert set(records) == {"b.png"}
    assert f"{file}, line 2" in said
    assert "broken encoding" in said


KEPT = {"bom", "nosize"}


@pytest.mark.parametrize("file", sorted(path.name for path in (CASES / "13-coco-odd").glob("*.json")))
def test_odd_files_of_coco_are_read_or_refused_with_the_place(convert, file: str) -> None:
    records, said = convert("13-coco-odd", "coco", "--instances", file, *COCO)
    if file.removesuffix(".json") in KEPT:
        assert [region["short_expr"] for region in records["a.png"]["regions"]] == ["red thing"]
    elif file == "swapped.json":  # 48×64 is declared, the picture has 64×48
        assert records["a.png"]["regions"] == []
        assert "48" in said
        assert "64" in said
    else:
        assert not records
        assert file in said
        assert "annotations[0]" in said or "images[0]" in said or "no list images" in said


def test_refcoco(convert) -> None:
    """Its refs name a picture by ref, and its instances by file: alone they meet nothing, together they do."""
    _, said = convert("19-refcoco-merge", "referring", "refs.json", *COCO)
    assert "nothing of refs could be converted" in said
    assert "image file is missing" in said
    records, _ = convert("19-refcoco-merge", "referring", "refs.json", "--instances", "instances.json", *COCO)
    (record,) = records.values()
    assert record["source_id"] == "COCO_train2014_000000000001.jpg"
    np.testing.assert_allclose(record["regions"][0]["bbox"], [8 / 64, 8 / 48, 24 / 64, 20 / 48], atol=1e-6)
    assert record["regions"][0]["short_expr"] == "red one"


@pytest.mark.parametrize("case", ["20-hub-objects", "21-hub-parallel-lists"])
@pytest.mark.parametrize(("name", "image"), [("ds", ()), ("ds_img", ("--image-column", "img"))])
def test_both_layouts_of_boxes_on_the_hub(convert, case: str, name: str, image: tuple[str, ...]) -> None:
    records, _ = convert(case, "hub", name, *image, *HUB)
    assert len(records) == 2
    record = records["train/0"]
    (region,) = record["regions"]
    assert region["short_expr"] == "red box"
    width, height = record["image"].size
    np.testing.assert_allclose(region["bbox"], [8 / width, 8 / height, 24 / width, 20 / height], atol=1e-6)
    if case == "20-hub-objects":
        assert record["short_captions"] == ["a red box.", "it is small"]


def test_paths_as_people_write_them(convert, tmp_path: Path) -> None:
    shutil.copytree(CASES / "22-paths", tmp_path / "case")
    (tmp_path / "case/images").mkdir()
    for name in ("D.PNG", "b c.png", "cafe\u0301.png"):  # the last as a Mac stores it
        Image.new("RGB", (16, 16)).save(tmp_path / "case/images" / name, "PNG")
    records, said = convert("22-paths", "table", "t.csv", *TABLE)
    assert set(records) == {"café.png", "b c.png"}
    assert records["b c.png"]["short_captions"] == ["dot", "leading blank"]
    assert "path leaves its root" in said
    assert "image file is missing" in said


def test_a_table_without_a_header_is_refused(convert) -> None:
    _, said = convert("23-headerless", "table", "t.tsv", *TABLE)
    assert "no column 'file'" in said
    assert "['a red box', 'a.png']" in said


@pytest.mark.parametrize("file", ["captions.txt", "captions.csv"])
def test_a_caption_is_never_cut_at_its_commas(convert, file: str) -> None:
    columns = ("--images", "images", "--image-column", "image", "--short-caption-column", "caption")
    records, said = convert("24-unquoted-commas", "table", file, *columns)
    assert {name: record["short_captions"] for name, record in records.items()} == {"b.png": ["plain"]}
    assert f"{file}, line 2" in said
    assert "4 cells under a header of 2" in said


@pytest.mark.parametrize(("name", "image"), [("named_image", ()), ("named_img", ("--image-column", "img"))])
def test_hub_sets_by_the_defaults(convert, name: str, image: tuple[str, ...]) -> None:
    records, _ = convert("25-hub-column-image", "hub", name, *image, "--short-caption-column", "text")
    assert len(records) == 2
