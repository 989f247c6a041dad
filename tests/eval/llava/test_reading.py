"""The official files: what is asked, perfect answers, and what is wrong with files."""

from __future__ import annotations

import base64
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dataset_scripts.formats.llava import box_text, into_square
from eval.images import UnreadableImage
from eval.llava.benchmarks import BENCHMARKS
from eval.llava.mmbench import EncodedImage
from eval.tasks.base import check_images, make_task


def _asked(name: str, data: Path, **options: str):
    benchmark = make_task(name, {"data": data} | options, BENCHMARKS)
    return benchmark, benchmark.asked()


def _perfect(question) -> str:
    if hasattr(question, "size"):
        return box_text(into_square(question.label, question.size, "pad"))
    return question.label


@pytest.mark.parametrize("name", BENCHMARKS)
def test_perfect_answers_to_the_sample_are_right(name: str, benchmarks: Path) -> None:
    options = {"subsets": "val,testA,testB,plus_val,plus_testA,plus_testB,g_val,g_test"} if name == "refcoco" else {}
    benchmark, questions = _asked(name, benchmarks, **options)
    assert not check_images(benchmark, [question.image for question in questions], None)
    sizes = {question.image.open().size for question in questions}
    assert len(sizes) > 1  # some are not square
    result = benchmark.score(questions, [_perfect(question) for question in questions], "pad")
    for score_name, score in result.scores.items():
        if score_name.endswith("yes_ratio"):
            assert score.value == 0.5
            continue
        assert score.value == 1, score_name
        assert score.chance < 0.7
        assert score.low <= score.value <= score.high
        assert score_name not in result.outcomes or len(result.outcomes[score_name]) == score.count
    wrong = benchmark.score(questions, ["[0.99, 0.99, 1.0, 1.0]"] * len(questions), "pad")
    first = next(iter(wrong.scores))
    assert wrong.scores[first].value == (pytest.approx(2 / 3) if name == "pope" else 0)  # who never says no says yes


def test_what_gqa_asks(benchmarks: Path) -> None:
    _, questions = _asked("gqa", benchmarks)
    assert len(questions) == 72
    stored = json.loads((benchmarks / "gqa" / "testdev_balanced_questions.json").read_text())
    first = next(iter(stored))
    assert questions[0].id == first
    assert questions[0].prompt == stored[first]["question"] + "\nAnswer the question using a single word or phrase."


def test_gqa_by_kind(benchmarks: Path) -> None:
    benchmark, questions = _asked("gqa", benchmarks)
    answers = [question.label if question.detailed == "color" else "?" for question in questions]
    result = benchmark.score(questions, answers)
    assert result.breakdown["detailed: color"]["accuracy"].value == 1
    assert result.breakdown["detailed: border"]["accuracy"].value == 0
    assert result.breakdown["detailed: border"]["accuracy"].count == 24


def test_pope_is_joined_by_split_and_id(benchmarks: Path) -> None:
    benchmark, questions = _asked("pope", benchmarks)
    assert {"random/1", "popular/1", "adversarial/1"} <= {question.id for question in questions}
    no = ["no"] * len(questions)
    assert benchmark.score(questions, no).scores["f1"].value == 0
    # Right on random alone: the mean of 1, 2/3 and 2/3.
    answers = [question.label if question.subset == "random" else "yes" for question in questions]
    assert benchmark.score(questions, answers).scores["f1"].value == pytest.approx(7 / 9)


def test_refcoco_needs_to_know_the_square(benchmarks: Path) -> None:
    benchmark, questions = _asked("refcoco", benchmarks)
    assert questions[0].prompt.startswith("Please provide the bounding box coordinate of the region this sentence")
    perfect = [_perfect(question) for question in questions]
    with pytest.raises(ValueError, match="image_fit=pad"):
        benchmark.score(questions, perfect)
    squashed, _ = _asked("refcoco", benchmarks, image_fit="squash")
    result = squashed.score(questions, perfect, "pad")  # the option goes before the model
    assert "squash" in result.settings["boxes_are_fractions_of"]
    assert any(score.value < 1 for score in result.scores.values())
    with pytest.raises(ValueError, match="image_fit must be one of"):
        _asked("refcoco", benchmarks, image_fit="stretch")


def test_what_mmbench_asks(benchmarks: Path) -> None:
    _, questions = _asked("mmbench", benchmarks)
    by_id = {question.id: question for question in questions}
    english, chinese = by_id["dev_en/1"], by_id["dev_cn/1"]
    *lines, closing = english.prompt.split("\n")
    assert closing == "Answer with the option's letter from the given choices directly."
    assert lines[-len(english.options) :] == [f"{x}. {o}" for x, o in zip("ABCD", english.options, strict=False)]
    assert chinese.prompt.endswith("\n请直接回答选项字母。")
    assert chinese.image.open().size == english.image.open().size
    hinted = next(question for question in questions if question.prompt.startswith("Objects have a rim"))
    assert hinted.prompt.split("\n")[1] == 'It is called their "border".'


def test_circular_is_right_only_if_every_round_is(benchmarks: Path) -> None:
    benchmark, questions = _asked("mmbench", benchmarks, subsets="dev_en")
    answers = [question.label if question.index < 1_000_000 else "?" for question in questions]
    result = benchmark.score(questions, answers)
    assert result.scores["dev_en"].value == 0
    assert result.scores["dev_en_plain"].value == 1
    first = questions[0].index
    answers = [question.label if question.index % 1_000_000 != first else "A" for question in questions]
    count = result.scores["dev_en_plain"].count
    result = benchmark.score(questions, answers)
    assert result.scores["dev_en"].value == pytest.approx(1 - 1 / count)
    rounds = len(questions[0].options)
    assert result.scores["dev_en"].chance < 1 / 4
    assert rounds == sum(question.index % 1_000_000 == first for question in questions)


def test_one_round_a_question_is_not_called_circular(benchmarks: Path, tmp_path: Path) -> None:
    path = _copy(benchmarks, tmp_path, "mmbench") / "mmbench_dev_en_20231003.tsv"
    _rewrite(path, lambda rows: [row for row in rows if int(row["index"]) < 1_000_000])
    benchmark, questions = _asked("mmbench", tmp_path, subsets="dev_en")
    result = benchmark.score(questions, [question.label for question in questions])
    assert list(result.scores) == ["dev_en_plain"]


def test_the_test_files_give_what_the_server_wants(benchmarks: Path, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    benchmark, questions = _asked("mmbench", benchmarks, subsets="test_en,test_cn")
    answers = ["=1+1", "B\x00"] + ["C"] * (len(questions) - 2)
    assert benchmark.score(questions, answers).scores == {}
    english, chinese = benchmark.write_submission(questions, answers, tmp_path)
    assert chinese.name == "mmbench_test_cn.xlsx"
    head, *rows = openpyxl.load_workbook(english).active.iter_rows(values_only=True)
    assert list(head) == ["index", "question", "A", "B", "C", "D", "split", "prediction"]
    assert [row[-1] for row in rows[:3]] == ["=1+1", "B", "C"]
    assert [row[0] for row in rows] == [question.index for question in questions if question.subset == "test_en"]


def test_an_image_given_by_the_index_of_another_row(benchmarks: Path, tmp_path: Path) -> None:
    """VLMEvalKit's files hold an image once."""
    path = _copy(benchmarks, tmp_path, "mmbench") / "mmbench_dev_en_20231003.tsv"
    _, before = _asked("mmbench", benchmarks, subsets="dev_en")

    def refer(rows: list[dict]) -> list[dict]:
        return [r | ({"image": str(int(r["index"]) % 1_000_000)} if int(r["index"]) > 999_999 else {}) for r in rows]

    _rewrite(path, refer)
    _, after = _asked("mmbench", tmp_path, subsets="dev_en")
    assert [question.image for question in after] == [question.image for question in before]


# -- what is wrong with files


def _copy(data: Path, to: Path, name: str) -> Path:
    shutil.copytree(data / name, to / name)
    return to / name


def _rewrite(path: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    csv.field_size_limit(1 << 24)
    with path.open(encoding="utf-8", newline="") as file:
        rows = change(list(csv.DictReader(file, delimiter="\t")))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def _first(**changes) -> Callable[[list[dict]], list[dict]]:
    return lambda rows: [rows[0] | changes, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_first(answer=""), "no answer to 1 of its"),
        (_first(answer="E"), "the answer is 'E'"),
        (_first(answer="D", D=""), "the answer is 'D', and the options are A, B, C"),
        (_first(B="nan"), "needs the options A and B"),
        (_first(image=""), "image is empty"),
        (_first(image="17"), "neither base64 nor the index"),
        (_first(index="one"), "invalid literal"),
        (_first(question=" "), "question must be a text"),
        (_first(A="\ufffd"), "broken encoding"),
        (lambda rows: [*rows, rows[0]], "two questions have the id"),
        (lambda rows: [{k: v for k, v in row.items() if k != "answer"} for row in rows], "no answer to"),
    ],
)
def test_mmbench_rows_that_are_refused(benchmarks: Path, tmp_path: Path, change: Callable, complaint: str) -> None:
    path = _copy(benchmarks, tmp_path, "mmbench") / "mmbench_dev_en_20231003.tsv"
    _rewrite(path, change)
    with pytest.raises(ValueError, match=complaint):
        _asked("mmbench", tmp_path, subsets="dev_en")


def test_a_quote_that_is_never_closed_and_a_row_that_is_cut(benchmarks: Path, tmp_path: Path) -> None:
    path = _copy(benchmarks, tmp_path, "mmbench") / "mmbench_dev_en_20231003.tsv"
    whole = path.read_text()
    path.write_text(whole.replace("\t", '\t"', 20))
    with pytest.raises(ValueError, match=r"line 2: malformed|quote never closed"):
        _asked("mmbench", tmp_path, subsets="dev_en")
    path.write_text(whole[:-2000])
    with pytest.raises(ValueError, match=r"line \d+: malformed .*cells under a header"):
        _asked("mmbench", tmp_path, subsets="dev_en")


def test_an_empty_option_d_is_no_option(benchmarks: Path, tmp_path: Path) -> None:
    path = _copy(benchmarks, tmp_path, "mmbench") / "mmbench_dev_en_20231003.tsv"
    _rewrite(path, _first(A="x", B="y", C="", D="z", answer="A", hint="nan"))
    question = _asked("mmbench", tmp_path, subsets="dev_en")[1][0]
    assert question.options == ("x", "y")  # as LLaVA, which stops at the first that is missing
    assert "nan" not in question.prompt


def test_base64_that_is_none_or_no_picture_or_too_much() -> None:
    with pytest.raises(UnreadableImage, match="no base64"):
        EncodedImage("not base64!").open()
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        EncodedImage(base64.b64encode(b"words").decode()).header()
    with pytest.raises(UnreadableImage, match="are read"):
        EncodedImage("A" * 70_000_000).open()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": None, "height": None}, "no width and height"),
        ({"bbox": [0, 0, 500, 10]}, "box lies outside the image"),
        ({"bbox": [30, 30, 10, 40]}, "inverted"),
        ({"bbox": [1, 2, 3]}, "bbox"),
        ({"sent": ""}, "sent must be a text"),
        ({"image": "../../secret.jpg"}, "leave its root"),
        ({"image": "/etc/passwd"}, "leave its root"),
        ({"width": "64"}, "width and height must be positive numbers"),
        ({"width": 63}, "it is another picture"),
    ],
)
def test_refcoco_rows_that_are_refused(benchmarks: Path, tmp_path: Path, change: dict, complaint: str) -> None:
    path = _copy(benchmarks, tmp_path, "refcoco") / "refcoco_val.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]))
    with pytest.raises(ValueError, match=rf"refcoco_val.jsonl, line 1.*{complaint}"):
        _asked("refcoco", tmp_path, subsets="val")


def test_refcoco_boxes_in_fractions_are_refused(benchmarks: Path, tmp_path: Path) -> None:
    path = _copy(benchmarks, tmp_path, "refcoco") / "refcoco_val.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps(row | {"bbox": [0.1, 0.2, 0.5, 0.6]}) for row in rows))
    with pytest.raises(ValueError, match="unit is fractions"):
        _asked("refcoco", tmp_path, subsets="val")


def test_refcoco_as_others_write_it(benchmarks: Path, tmp_path: Path) -> None:
    """Shikra's names, and Qwen-VL's paths; a box that overshoots by a rounding is cut."""
    path = _copy(benchmarks, tmp_path, "refcoco") / "refcoco_val.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    width, height = row["width"], row["height"]
    name = row["image"].split("/")[-1]
    other = {"img_path": f"data/refcoco/train2014/{name}", "expression": "it ", "width": width, "height": height}
    path.write_text(json.dumps(other | {"bbox": [-0.2, 0, width + 0.3, height]}))
    _, (question,) = _asked("refcoco", tmp_path, subsets="val")
    assert question.image.open().size == (width, height)
    assert question.prompt.endswith("describes: it.")
    assert question.label == [0, 0, width, height]


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("gqa", {"answer": None}, "answer must be a text"),
        ("gqa", {"question": ""}, "question must be a text"),
        ("gqa", {"imageId": "../x"}, "leave its root"),
        ("gqa", {"imageId": 17}, "imageId must be a text"),
        ("pope", {"label": "maybe"}, "label must be yes or no"),
        ("pope", {"image": "../x.jpg"}, "leave its root"),
        ("pope", {"text": 3}, "text must be a text"),
    ],
)
def test_gqa_and_pope_entries_that_are_refused(
    benchmarks: Path, tmp_path: Path, name: str, change: dict, complaint: str
) -> None:
    folder = _copy(benchmarks, tmp_path, name)
    if name == "gqa":
        path = folder / "testdev_balanced_questions.json"
        content = json.loads(path.read_text())
        content[next(iter(content))] |= change
        path.write_text(json.dumps(content))
    else:
        path = folder / "coco_pope_random.json"
        first, *rest = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]))
    with pytest.raises(ValueError, match=complaint):
        _asked(name, tmp_path)


def test_a_missing_image_is_an_error_and_no_question_without_one(benchmarks: Path, tmp_path: Path) -> None:
    folder = _copy(benchmarks, tmp_path, "pope")
    next((folder / "val2014").iterdir()).unlink()
    benchmark, questions = _asked("pope", tmp_path)
    with pytest.raises(ValueError, match=r"1 of 24 images are missing .*\n") as error:
        check_images(benchmark, [question.image for question in questions], None)
    assert "allow_missing" not in str(error.value)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_absent_files_and_wrong_subsets(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"task {name}: no .*; looked for|must hold one file"):
        _asked(name, tmp_path)
    with pytest.raises(ValueError, match=r"has the subsets .* got tset"):
        _asked(name, tmp_path, subsets="tset")


def test_boxes_turn_with_their_picture(benchmarks: Path, tmp_path: Path) -> None:
    path = _copy(benchmarks, tmp_path, "refcoco") / "refcoco_val.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, upright after a quarter turn to the right
    Image.new("RGB", (60, 40)).save(path.parent / row["image"], exif=exif)
    path.write_text(json.dumps(row | {"bbox": [0, 0, 30, 10], "width": 60, "height": 40}))
    _, (question,) = _asked("refcoco", tmp_path, subsets="val")
    assert question.size == question.image.open().size == (40, 60)
    assert question.label == pytest.approx([30, 0, 40, 30])
