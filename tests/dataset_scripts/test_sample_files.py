"""What the generated sample writes: layout, determinism, exclusive splits, honest boxes, blind readers at chance."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_scripts.sample import generate_sample
from dataset_scripts.sample.captions import parse
from dataset_scripts.sample.vocabulary import COLOR_NAMES, HELD_OUT, MATERIALS, SHAPES

TRAIN, TEST, SIZE = 260, 270, 64
FILES = {
    "h_attributes_llava": 1,
    "m_attributes_llava": 2,
    "e_attributes_llava": 3,
    "shuffle_negatives_llava": None,
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_sample(tmp_path_factory.mktemp("sample") / "set", seed=5, train=TRAIN, test=TEST, image_size=SIZE)


def _records(folder: Path) -> list[dict]:
    return [record for path in sorted(folder.glob("jsonfiles/*.json")) for record in json.loads(path.read_text())]


def _rows(sample: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (sample / "fgovd" / f"{name}.jsonl").read_text().splitlines()]


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def test_the_layout_is_the_published_one(sample: Path) -> None:
    for split, count in (("train", TRAIN), ("test", TEST)):
        records = _records(sample / split)
        assert len(records) == count
        for record in records:
            assert set(record) == {"f_path", "caption", "short_caption", "bbox_info"}
            path = record["f_path"].removeprefix("grit-20m/data-12m/")
            assert path.startswith("coyo_image_0/0000")
            with Image.open(sample / split / "images" / path) as image:
                assert (image.size, image.mode, image.format) == ((SIZE, SIZE), "RGB", "JPEG")
            assert 2 <= len(record["bbox_info"]) <= 4
            for region in record["bbox_info"]:
                x1, y1, x2, y2, score = region["bbox"]
                assert 0 <= x1 < x2 <= 1
                assert 0 <= y1 < y2 <= 1
                assert score == 1.0
                assert region["flag_short_neg"] == 1
                assert list(region["short_expr_negs"]) == [str(n) for n in range(10)]


def test_equal_settings_give_equal_bytes_whatever_the_number_of_workers(tmp_path: Path, sample: Path) -> None:
    command = [sys.executable, "-m", "dataset_scripts.sample", "--output", str(tmp_path / "again"), "--workers", "2"]
    command += ["--seed", "5", "--train", str(TRAIN), "--test", str(TEST), "--image-size", str(SIZE)]
    subprocess.run(command, check=True, capture_output=True)
    assert _digest(tmp_path / "again") == _digest(sample)
    other = generate_sample(tmp_path / "other", seed=6, train=TRAIN, test=TEST, image_size=SIZE)
    assert _digest(other / "train" / "images") != _digest(sample / "train" / "images")


def test_training_and_test_share_no_combination_in_positives_or_negatives(sample: Path) -> None:
    def combinations(texts: list[str]) -> set[tuple[int, int, int]]:
        return {(looks.shape, looks.color, looks.border) for looks in map(parse, texts)}

    def region_texts(split: str) -> list[str]:
        regions = [region for record in _records(sample / split) for region in record["bbox_info"]]
        return [text for r in regions for text in (r["short_expr"], *r["short_expr_negs"].values())]

    train = combinations(region_texts("train"))
    test = combinations(region_texts("test"))
    for name in FILES:
        test |= combinations([t for row in _rows(sample, name) for t in row["pos_expression"] + row["neg_expression"]])
    assert not train & test
    assert all(HELD_OUT[key] for key in test)
    assert len(train) > 2000  # the sample is large enough for the sets to mean something


FREE = re.compile(
    rf"(a photo of )?an? ((?P<size>small|large) )?((?P<color>{'|'.join(COLOR_NAMES)}) )?"
    rf"((?P<material>{'|'.join(MATERIALS)}) )?(?P<shape>\w+)"
    r"( with an? (?P<border>[\w ]+) border)?( at the (?P<position>[\w ]+))?"
)


def test_captions_and_free_expressions_name_only_what_is_there(sample: Path) -> None:
    said = Counter()
    for record in _records(sample / "train"):
        for region in record["bbox_info"]:
            words = region["short_expr"].split(" ", 1)[1]
            assert words in record["caption"]
            assert words.split(" with ")[0] in record["short_caption"]
            looks = parse(region["short_expr"])
            x1, y1, x2, y2, _ = region["bbox"]
            vertical = "top" if (y1 + y2) / 2 < 0.5 else "bottom"
            horizontal = "left" if (x1 + x2) / 2 < 0.5 else "right"
            truth = {
                "size": "large" if max(x2 - x1, y2 - y1) > 0.4 else "small",
                "color": COLOR_NAMES[looks.color],
                "material": MATERIALS[looks.material],
                "shape": SHAPES[looks.shape],
                "border": COLOR_NAMES[looks.border],
                "position": f"{vertical} {horizontal}",
            }
            named = {slot: word for slot, word in FREE.fullmatch(region["long_expr"]).groupdict().items() if word}
            assert named.items() <= truth.items()
            said.update(named.keys())
            said["nothing but the shape"] += len(named) == 1
            said["a photo of"] += region["long_expr"].startswith("a photo of ")
    share = {slot: count / said["shape"] for slot, count in said.items()}
    expected = {"size": 0.3, "color": 0.5, "material": 0.5, "border": 0.5, "position": 0.3, "a photo of": 0.25}
    assert {slot: share[slot] for slot in expected} == pytest.approx(expected, abs=0.06)
    assert share["nothing but the shape"] == pytest.approx(0.7**2 * 0.5**3, abs=0.03)


def test_boxes_are_tight_around_the_drawn_objects_and_never_overlap(sample: Path) -> None:
    y, x = np.mgrid[:SIZE, :SIZE]
    plane = np.stack([np.ones_like(x), x, y], 2).astype(float)
    for record in _records(sample / "test")[:80]:
        path = sample / "test" / "images" / record["f_path"].removeprefix("grit-20m/data-12m/")
        pixels = np.asarray(Image.open(path)).astype(float)
        boxes = [[round(edge * SIZE) for edge in region["bbox"][:4]] for region in record["bbox_info"]]
        covered = np.zeros((SIZE, SIZE), dtype=int)
        for x1, y1, x2, y2 in boxes:
            covered[y1:y2, x1:x2] += 1
        assert covered.max() == 1
        # The background is an even slope: fitted outside the boxes, it tells the drawn pixels inside them.
        coefficients, *_ = np.linalg.lstsq(plane[covered == 0], pixels[covered == 0], rcond=None)
        drawn = np.abs(pixels - plane @ coefficients).max(2) > 20
        assert (drawn & (covered == 0)).sum() <= 4  # JPEG may bleed a little
        for x1, y1, x2, y2 in boxes:
            rows, columns = np.nonzero(drawn[y1:y2, x1:x2])
            assert max(rows.min(), columns.min()) <= 1
            assert rows.max() >= y2 - y1 - 2
            assert columns.max() >= x2 - x1 - 2


@pytest.mark.parametrize(("name", "replaced"), FILES.items())
def test_fgovd_rows(sample: Path, name: str, replaced: int | None) -> None:
    regions = {
        (record["f_path"].removeprefix("grit-20m/data-12m/"), region["short_expr"]): region["bbox"]
        for record in _records(sample / "test")
        for region in record["bbox_info"]
    }
    rows = _rows(sample, name)
    assert len(rows) == len(regions)  # every region once
    for row in rows:
        (positive,) = row["pos_expression"]
        left, top, width, height = row["bbox"]
        expected = np.array(regions[row["img_path"], positive][:4]) * SIZE
        np.testing.assert_allclose([left, top, left + width, top + height], expected, atol=1e-3)
        assert len(row["neg_expression"]) == len(row["neg_category_ids"]) == 10
        candidates = [parse(text) for text in (positive, *row["neg_expression"])]
        different = [len({looks[slot] for looks in candidates}) for slot in range(4)]
        assert set(different) <= {1, 11} or replaced is None
        if replaced is None:
            assert different[0] == 11
        else:
            assert different[0] == 1
            assert different.count(11) == replaced


def test_coco_instances_hold_the_same_boxes(sample: Path) -> None:
    content = json.loads((sample / "boxes" / "instances_test.json").read_text())
    assert [category["name"] for category in content["categories"]] == list(SHAPES)
    names = {category["id"]: category["name"] for category in content["categories"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    rows = {(row["img_path"], tuple(row["bbox"])): row for row in _rows(sample, "h_attributes_llava")}
    assert len(content["annotations"]) == len(rows)
    # COCO's evaluation writes the id of the matched annotation, and 0 for none.
    assert [annotation["id"] for annotation in content["annotations"]] == list(range(1, len(rows) + 1))
    for annotation in content["annotations"]:
        assert (sample / "test" / "images" / files[annotation["image_id"]]).is_file()
        row = rows[files[annotation["image_id"]], tuple(annotation["bbox"])]
        assert SHAPES[parse(row["pos_expression"][0]).shape] == names[annotation["category_id"]]
        assert 0 < annotation["area"] <= annotation["bbox"][2] * annotation["bbox"][3]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("source", ["train captions", "the file itself"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_reader_of_captions_alone_is_at_chance(sample: Path, name: str, source: str, sign: int) -> None:
    """Scores a candidate by how often its words and word pairs occur; frequent or rare ones win."""

    def grams(text: str) -> list[tuple[str, ...]]:
        words = text.split()
        return [
            *((word,) for word in words),
            *itertools.pairwise(words),
            *zip(words, words[1:], words[2:], strict=False),
        ]

    rows = _rows(sample, name)
    if source == "train captions":
        texts = [region["short_expr"] for record in _records(sample / "train") for region in record["bbox_info"]]
    else:
        texts = [text for row in rows for text in (*row["pos_expression"], *row["neg_expression"])]
    counts = Counter(gram for text in texts for gram in grams(text))
    right = 0.0
    for row in rows:
        scores = [
            sign * sum(np.log1p(counts[g]) for g in grams(t)) for t in row["pos_expression"] + row["neg_expression"]
        ]
        best = max(scores)
        right += (scores[0] == best) / scores.count(best)
    accuracy, chance = right / len(rows), 1 / 11
    # 3.5 standard deviations of a fair draw; the seed is fixed, so that this either holds or does not.
    assert abs(accuracy - chance) < 3.5 * np.sqrt(chance * (1 - chance) / len(rows))


def test_an_existing_sample_is_kept_and_anything_else_is_refused(tmp_path: Path) -> None:
    output = generate_sample(tmp_path / "set", train=2, test=2, image_size=64)
    before = (output / "sample.json").stat().st_mtime_ns
    assert generate_sample(output, train=2, test=2, image_size=64) == output
    assert (output / "sample.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="overwrite"):
        generate_sample(output, train=3, test=2, image_size=64)
    generate_sample(output, train=3, test=2, image_size=64, overwrite=True)
    assert len(_records(output / "train")) == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no generated sample"):
        generate_sample(tmp_path / "mine", train=2, test=2, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize(
    "settings", [{"train": 0}, {"test": -1}, {"seed": -1}, {"image_size": 63}, {"image_size": 2000}, {"workers": 0}]
)
def test_settings_out_of_range_are_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        generate_sample(tmp_path / "set", **settings)
    assert not (tmp_path / "set").exists()
