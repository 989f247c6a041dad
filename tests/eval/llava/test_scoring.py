"""Each scorer against hand-made answers whose results are known."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from dataset_scripts.formats.llava import box_text, into_square
from eval.llava import gqa, mmbench, pope, refcoco
from eval.metrics import mean_ratio, mean_ratio_interval


@pytest.mark.parametrize(
    ("answer", "label", "right"),
    [
        ("Yes", "yes", True),
        ("no.", "no", True),
        ("Dark Blue...", "dark blue", True),
        ("a dog", "dog", False),
        ("dog ", "dog", False),  # LLaVA strips what it writes; scoring changes nothing but case and full stops
        ("", "no", False),
    ],
)
def test_gqa_is_exact_but_for_case_and_full_stops(answer: str, label: str, right: bool) -> None:
    assert gqa.is_correct([answer], [label]).tolist() == [right]


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("Yes", True),
        ("no", False),
        ("No, there is not.", False),
        ("Yes. There is no dog.", True),  # the first sentence alone
        ("There is not a dog", False),
        ("Nothing of it", True),  # no word of the three
        ("NO", True),  # nor is this one
        ("no\nit is", True),  # words are what blanks separate
        ("", True),
    ],
)
def test_popes_first_sentence_rule(answer: str, yes: bool) -> None:
    assert pope.says_yes(answer) is yes


def _measures(answers: list[str], labels: list[str]) -> dict[str, float]:
    found = pope.contributions(answers, labels)
    return {name: mean_ratio(*(np.asarray(part)[:, None] for part in parts)) for name, parts in found.items()}


def test_popes_measures() -> None:
    labels = ["yes", "yes", "yes", "no", "no"]
    found = _measures(["Yes", "Yes", "No", "Yes", "No"], labels)  # TP 2, FN 1, FP 1, TN 1
    assert found == pytest.approx(
        {"accuracy": 0.6, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "yes_ratio": 0.6}
    )
    # The yes ratio is of the answers; the labels' would be 0.6 again.
    found = _measures(["No"] * 5, labels)
    assert found == {"accuracy": 0.4, "precision": 0, "recall": 0, "f1": 0, "yes_ratio": 0}
    found = _measures(["Yes"] * 5, labels)
    assert found == pytest.approx({"accuracy": 0.6, "precision": 0.6, "recall": 1, "f1": 0.75, "yes_ratio": 1})
    assert _measures(["No"], ["no"])["f1"] == 0  # nothing there, nothing said


def test_the_mean_of_ratios_and_its_interval() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(50), 6)
    hit = random.random((300, 2)) < 0.7
    ones = np.ones((300, 2))
    assert mean_ratio(hit, ones) == pytest.approx(hit.mean())
    low, high = mean_ratio_interval(hit, ones, groups)
    spread = hit.mean(1).reshape(50, 6).mean(1).std() / np.sqrt(50)  # of independent groups, in closed form
    assert (high - low) / (2 * 1.96) == pytest.approx(spread, rel=0.15)
    assert mean_ratio_interval(hit, np.zeros((300, 2)), groups) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "box"),
    [
        ("[0.1, 0.2, 0.3, 0.4]", [0.1, 0.2, 0.3, 0.4]),
        ("The box is [0.10,0.20,0.30,1].", [0.1, 0.2, 0.3, 1.0]),
        ("[.1, 0.2, 0.3, 0.4] or [0, 0, 1, 1]", [0.1, 0.2, 0.3, 0.4]),
        ("[-0.02, 0.2, 0.3, 1.01]", [-0.02, 0.2, 0.3, 1.01]),
        ("[0.1, 0.2, 0.3]", None),
        ("[0.3, 0.2, 0.1, 0.4]", None),  # inverted
        ("[0.1, 0.2, 0.1, 0.4]", None),  # empty
        ("[nan, 0, 1, 1]", None),
        ("0.1 0.2 0.3 0.4", None),
        ("[0.1, 0.2, 0.3, 0.4", None),
        ("", None),
    ],
)
def test_boxes_of_answers(answer: str, box: list[float] | None) -> None:
    assert refcoco.box_of(answer) == box


def test_iou_against_the_pixels_it_counts() -> None:
    random = np.random.default_rng(0)
    corners = np.sort(random.integers(0, 20, (200, 2, 2, 2)), axis=2)  # boxes, first or second, low or high, x or y
    corners[:, :, 1] += 1
    y, x = np.mgrid[:21, :21]
    for pair in corners:
        masks = [(x >= low[0]) & (x < high[0]) & (y >= low[1]) & (y < high[1]) for low, high in pair]
        expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        first, second = (np.array([[*low, *high]], float) for low, high in pair)
        assert refcoco.iou(first, second)[0] == pytest.approx(expected)


def _realistic(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of COCO's sizes with boxes whose share of the area is spread as COCO's, half of them under 2 %."""
    random = np.random.default_rng(0)
    sizes = np.array([(640, 480), (640, 427), (480, 640), (640, 360), (500, 375)])[random.integers(0, 5, count)]
    area = np.clip(np.exp(random.normal(np.log(0.02), 1.5, count)), 0.001, 0.9)
    aspect = np.exp(random.normal(0, 0.5, count))
    extent = np.clip(np.sqrt(np.stack([area * aspect, area / aspect], 1)), 0.02, 0.99) * sizes
    corner = random.random((count, 2)) * (sizes - extent)
    return np.concatenate([corner, corner + extent], 1), sizes


def _accuracy(boxes: np.ndarray, sizes: np.ndarray, written_in: str, read_in: str) -> float:
    answers = [box_text(into_square(box, size, written_in)) for box, size in zip(boxes, sizes, strict=True)]
    return float(refcoco.is_located(answers, boxes, sizes, read_in)[0].mean())


def test_a_perfect_answer_in_the_padded_square_is_mapped_back_and_lost_otherwise() -> None:
    boxes, sizes = _realistic(4000)
    assert _accuracy(boxes, sizes, "pad", "pad") >= 0.99
    assert 0.4 < _accuracy(boxes, sizes, "pad", "squash") < 0.7  # as if the answer were fractions of the picture
    assert _accuracy(boxes, sizes, "squash", "squash") >= 0.99
    assert _accuracy(boxes, sizes, "crop", "crop") >= 0.99


@pytest.mark.skipif("FGCLIP_FGOVD" not in os.environ, reason="needs the folder of FG-OVD's files")
def test_the_same_on_the_boxes_of_fgovd() -> None:
    """3,545 real boxes of COCO: 99.35 % mapped back from two decimals, 53.4 % if the square is taken for the picture."""
    rows = [json.loads(line) for line in (Path(os.environ["FGCLIP_FGOVD"]) / "h_attributes_llava.jsonl").open()]
    boxes = np.array([row["bbox"] for row in rows])
    boxes[:, 2:] += boxes[:, :2]
    sizes = np.array([(row["width"], row["height"]) for row in rows])
    assert len(rows) == 3545
    assert _accuracy(boxes, sizes, "pad", "pad") >= 0.99
    fractions = np.array([into_square(box, size, "pad") for box, size in zip(boxes, sizes, strict=True)])
    mistaken = refcoco.iou(fractions * np.tile(sizes, 2), boxes)
    assert (mistaken >= 0.5).mean() == pytest.approx(0.534, abs=0.002)
    assert mistaken.mean() == pytest.approx(0.464, abs=0.001)


def test_unreadable_answers_are_wrong_and_counted_apart() -> None:
    boxes, sizes = np.array([[0.0, 0, 50, 50]] * 3), np.array([[100, 100]] * 3)
    correct, unreadable = refcoco.is_located(["[0, 0, 0.5, 0.5]", "top left", "[0.5, 0.5, 1, 1]"], boxes, sizes, "pad")
    assert correct.tolist() == [True, False, False]
    assert unreadable.tolist() == [False, True, False]


def test_an_iou_of_exactly_one_half_counts() -> None:
    boxes, sizes = np.array([[0.0, 0, 100, 100]]), np.array([[100, 100]])
    assert refcoco.is_located(["[0, 0, 1, 0.5]"], boxes, sizes, "pad")[0].tolist() == [True]
    assert refcoco.is_located(["[0, 0, 1, 0.49]"], boxes, sizes, "pad")[0].tolist() == [False]


def test_chance_of_refcoco_is_that_of_another_rows_box() -> None:
    sizes = np.array([[100, 100]] * 4)
    same = np.array([[0.0, 0, 50, 50]] * 4)
    apart = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30], [80, 80, 90, 90]])
    assert refcoco.chance_of(same, sizes) == 1
    assert refcoco.chance_of(apart, sizes) == 0
    assert refcoco.chance_of(same[:1], sizes[:1]) == 0


COLORS = ["red", "dark red", "blue", "green"]


@pytest.mark.parametrize(
    ("answer", "options", "letter"),
    [
        ("B", COLORS, "B"),
        ("B.", COLORS, "B"),
        ("(C) blue", COLORS, "C"),
        ("The answer is D.", COLORS, "D"),
        ("答案是A。", COLORS, "A"),
        ("A", COLORS, "A"),
        ("A or B", COLORS, None),
        ("E", COLORS, None),
        ("D", ["yes", "no"], None),  # no such option
        ("dark red", COLORS, "B"),
        ("Green.", COLORS, "D"),
        ("It is blue", COLORS, "C"),
        ("red or blue", COLORS, None),
        ("A dog", ["A cat", "A dog"], "B"),  # an article is no letter
        ("A dog", ["cat", "dog"], "B"),
        ("ABCD", COLORS, None),
        ("", COLORS, None),
        ("", ["", "x"], None),
    ],
)
def test_letters_of_answers(answer: str, options: list[str], letter: str | None) -> None:
    assert mmbench.chosen_letter(answer, options) == letter


def test_circular_evaluation_wants_every_round() -> None:
    correct = np.array([True, False, True, True, True])
    right, first = mmbench.all_rounds(correct, np.array([0, 1, 0, 1, 2]))
    assert right.tolist() == [True, False, True]
    assert first.tolist() == [0, 1, 4]


def test_wrong_and_unreadable_choices() -> None:
    correct, unreadable = mmbench.is_chosen(["A", "B", "hm"], [COLORS] * 3, ["A", "A", "A"])
    assert correct.tolist() == [True, False, False]
    assert unreadable.tolist() == [False, False, True]
