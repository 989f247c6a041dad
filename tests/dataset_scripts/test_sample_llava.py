"""The LLaVA part of the generated sample: LLaVA's and the benchmarks' layouts, true answers, no answer in a question."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from dataset_scripts.formats.llava import IMAGE_FITS, into_square, out_of_square
from dataset_scripts.sample import generate_sample
from dataset_scripts.sample.__main__ import main
from dataset_scripts.sample.captions import parse
from dataset_scripts.sample.llava import write_llava
from dataset_scripts.sample.vocabulary import COLOR_NAMES, SHAPES

SIZE, TRAIN, TEST = 64, 90, 300


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "set"
    main(["--output", str(folder), "--seed", "3", "--train", str(TRAIN), "--test", str(TEST), "--image-size", "64", "--llava", "--workers", "1"])  # fmt: skip
    return folder


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _shown(sample: Path, split: str) -> dict[str, dict]:
    """Scene number → record of the sample."""
    records = [r for path in sorted((sample / split / "jsonfiles").glob("*")) for r in json.loads(path.read_text())]
    return dict(enumerate(records))


def test_the_sample_itself_is_the_same_with_and_without(sample: Path, tmp_path: Path) -> None:
    plain = generate_sample(tmp_path / "plain", seed=3, train=TRAIN, test=TEST, image_size=SIZE)
    both = _digests(sample)
    assert _digests(plain) == {name: digest for name, digest in both.items() if not name.startswith("llava/")}
    write_llava(plain)  # added later: the same bytes
    assert _digests(plain) == both
    with pytest.raises(ValueError, match="no generated sample"):
        write_llava(tmp_path)


def test_training_rows_are_llavas_json(sample: Path) -> None:
    pretrain = json.loads((sample / "llava" / "pretrain.json").read_text())
    instruct = json.loads((sample / "llava" / "instruct.json").read_text())
    assert len(pretrain) == TRAIN
    assert [row["image"] for row in pretrain] == [row["image"] for row in instruct if "image" in row]
    assert len({row["id"] for row in instruct}) == len(instruct)
    texts = [row for row in instruct if "image" not in row]
    assert len(texts) == TRAIN // 10
    for row in pretrain + instruct:
        says = row["conversations"]
        assert [turn["from"] for turn in says] == ["human", "gpt"] * (len(says) // 2)
        marks = [turn["value"].count("<image>") for turn in says]
        assert marks == [1 if "image" in row else 0, *[0] * (len(says) - 1)]
        assert "image" not in row or says[0]["value"].startswith("<image>\n")
    sizes = Counter(Image.open(sample / row["image"]).size for row in pretrain)
    assert sizes.pop((SIZE, SIZE)) == TRAIN - TRAIN // 3
    assert set(sizes) == {(SIZE, SIZE // 2), (SIZE // 2, SIZE)}
    whole = _shown(sample, "train")[0]
    for region in whole["bbox_info"]:
        assert region["short_expr"] in pretrain[0]["conversations"][1]["value"]


def test_boxes_of_the_instructions_lie_in_the_padded_square(sample: Path) -> None:
    """Each described box, mapped back to the picture, holds the object that the description names."""
    records, found = _shown(sample, "train"), 0
    for row in json.loads((sample / "llava" / "instruct.json").read_text()):
        says = row["conversations"]
        for human, answer in zip(says[::2], says[1::2], strict=True):
            if "short description for this region" not in human["value"]:
                continue
            box = json.loads(human["value"].split(": ")[1].rstrip("."))
            with Image.open(sample / row["image"]) as picture:
                x1, y1, x2, y2 = out_of_square(box, picture.size, "pad")
                size = picture.size
            region = next(
                r for r in records[int(row["id"])]["bbox_info"] if r["short_expr"] == answer["value"]
            )  # of the whole scene, of which the picture may be one half
            left, top, right, bottom = (edge * SIZE for edge in region["bbox"][:4])
            assert [x2 - x1, y2 - y1] == pytest.approx([right - left, bottom - top], abs=1.3)
            assert (left - x1) % (SIZE / 2) == pytest.approx(0, abs=0.7) or (left - x1) % (SIZE / 2) > SIZE / 2 - 0.7
            assert min(x1, y1) > -1
            assert x2 < size[0] + 1
            assert y2 < size[1] + 1
            found += 1
    assert found > 10


@pytest.mark.parametrize("fit", IMAGE_FITS)
@pytest.mark.parametrize("size", [(640, 480), (333, 500), (7, 7)])
def test_the_square_and_back(fit: str, size: tuple[int, int]) -> None:
    box = [1.0, 2.0, 5.0, 6.0]
    assert out_of_square(into_square(box, size, fit), size, fit) == pytest.approx(box)


def test_the_three_squares() -> None:
    assert into_square([0, 0, 640, 480], (640, 480), "pad") == pytest.approx([0, 1 / 8, 1, 7 / 8])
    assert into_square([0, 0, 640, 480], (640, 480), "squash") == [0, 0, 1, 1]
    assert into_square([80, 0, 560, 480], (640, 480), "crop") == [0, 0, 1, 1]
    assert into_square([0, 0, 5, 4], (5, 4), "pad") == [0, 0, 1, 0.8]  # LLaVA pastes at (5 - 4) // 2 = 0
    with pytest.raises(ValueError, match="stretch"):
        into_square([0, 0, 1, 1], (2, 2), "stretch")


def test_gqa_is_in_its_layout_and_a_blind_reader_is_at_chance(sample: Path) -> None:
    folder = sample / "llava" / "eval" / "gqa"
    questions = json.loads((folder / "testdev_balanced_questions.json").read_text())
    assert len(questions) == 3 * TEST
    sizes = Counter(Image.open(folder / "images" / f"{q['imageId']}.jpg").size for q in questions.values())
    assert sizes[SIZE, SIZE] == 2 * TEST
    kinds = Counter(question["types"]["detailed"] for question in questions.values())
    assert kinds["color"] == kinds["border"] == TEST
    for kind, choices in (("color", COLOR_NAMES), ("border", COLOR_NAMES), ("colorVerify", ("yes", "no")), ("exist", ("yes", "no"))):  # fmt: skip
        asked = [q for q in questions.values() if q["types"]["detailed"] == kind]
        assert {q["answer"] for q in asked} <= set(choices)
        # The best single answer to each question text, as a reader without pictures would have it from other pictures.
        share = Counter(q["answer"] for q in asked).most_common(1)[0][1] / len(asked)
        chance = 1 / len(choices)
        assert share < chance + 3.5 * np.sqrt(chance * (1 - chance) / len(asked))
    records = _shown(sample, "test")
    for question in questions.values():
        looks = {SHAPES[(w := parse(r["short_expr"])).shape]: w for r in records[int(question["imageId"][1:])]["bbox_info"]}  # fmt: skip
        if question["types"]["detailed"] == "border":
            shape = question["question"].split()[-1].rstrip("?")
            assert question["answer"] == COLOR_NAMES[looks[shape].border]


def test_pope_asks_as_often_for_what_is_there_as_for_what_is_not(sample: Path) -> None:
    folder = sample / "llava" / "eval" / "pope"
    records = _shown(sample, "test")
    for split in ("random", "popular", "adversarial"):
        rows = _lines(folder / f"coco_pope_{split}.json")
        assert [row["question_id"] for row in rows] == list(range(1, len(rows) + 1))
        assert Counter(row["label"] for row in rows)["yes"] == len(rows) / 2
        for row in rows:
            assert (folder / "val2014" / row["image"]).is_file()
            shape = row["text"].split()[3]
            assert row["text"] in (f"Is there a {shape} in the image?", f"Is there an {shape} in the image?")
            there = {
                SHAPES[parse(r["short_expr"]).shape]
                for r in records[int(row["image"].split("_")[2][:-4])]["bbox_info"]
            }
            assert row["label"] == "no" or shape in there
    missed = {
        split: Counter(
            r["text"] for r in _lines(folder / f"coco_pope_{split}.json") if r["label"] == "no"
        ).most_common(2)
        for split in ("random", "popular")
    }
    assert missed["popular"][0][1] > 1.5 * missed["random"][0][1]


def test_refcoco_rows_hold_the_objects_box_in_the_pictures_pixels(sample: Path) -> None:
    folder = sample / "llava" / "eval" / "refcoco"
    names = {path.stem for path in folder.glob("*.jsonl")}
    expected = {f"{kind}_{part}" for kind in ("refcoco", "refcoco+") for part in ("val", "testA", "testB")}
    assert names == expected | {"refcocog_val", "refcocog_test"}
    records, shapes = _shown(sample, "test"), Counter()
    for name in sorted(names):
        for row in _lines(folder / f"{name}.jsonl"):
            with Image.open(folder / row["image"]) as picture:
                assert picture.size == (row["width"], row["height"])
            x1, y1, x2, y2 = row["bbox"]
            assert 0 <= x1 < x2 <= row["width"]
            assert 0 <= y1 < y2 <= row["height"]
            shape = next(word for word in row["sent"].split() if word in SHAPES)
            regions = records[int(row["image"].split("_")[-1][:-4])]["bbox_info"]
            (box,) = [np.array(r["bbox"][:4]) * SIZE for r in regions if SHAPES[parse(r["short_expr"]).shape] == shape]
            assert [x2 - x1, y2 - y1] == pytest.approx([box[2] - box[0], box[3] - box[1]], abs=1e-2)
            shapes[row["width"] == row["height"]] += 1
    assert shapes[False] > 0.15 * shapes.total()


def test_mmbench_rounds_move_the_options_and_the_test_files_have_no_answers(sample: Path) -> None:
    folder = sample / "llava" / "eval" / "mmbench"
    for language in ("en", "cn"):
        dev = pandas.read_csv(folder / f"mmbench_dev_{language}_20231003.tsv", sep="\t", keep_default_na=False)
        assert dev["index"].is_unique
        for _, rounds in dev.groupby(dev["index"] % 1_000_000):
            options = [[row[letter] for letter in "ABCD" if row[letter]] for _, row in rounds.iterrows()]
            assert len(rounds) == len(options[0])
            assert len({row[row["answer"]] for _, row in rounds.iterrows()}) == 1
            assert sorted(rounds["answer"]) == list("ABCD"[: len(rounds)])
        assert (dev["D"] == "").any()
        assert (dev["D"] != "").any()
        picture = Image.open(io.BytesIO(base64.b64decode(dev["image"][0])))
        assert max(picture.size) == SIZE
        test = pandas.read_csv(folder / f"mmbench_test_{language}_20231003.tsv", sep="\t")
        assert "answer" not in test
        assert len(test) > 10
    english = pandas.read_csv(folder / "mmbench_dev_en_20231003.tsv", sep="\t", keep_default_na=False)
    assert english["hint"].str.contains('"border"').any()
    assert english["hint"].str.contains("\n").any()
