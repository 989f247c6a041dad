"""FG-OVD in its real file format, with answers worked out by hand for a model that sees colors."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from eval import evaluate_model
from eval.attributes import changed_attributes
from eval.images import Boxes, clip_boxes
from eval.tasks import make_task
from tests.eval.task_runs import run


@pytest.fixture
def fgovd(tmp_path, paint):
    """Two images; the red box left, the blue box right. Row 3 is labelled wrongly on purpose: it can only fail."""
    for name in ("a", "b"):
        paint(tmp_path / f"coco/val2017/{name}.png", "white", ("red", (0, 0, 32, 64)), ("blue", (32, 0, 64, 64)))
    left, right = [0.0, 0.0, 32.0, 64.0], [32.0, 0.0, 32.0, 64.0]

    def row(image, box, positive, negatives):
        return {
            "img_path": f"val2017/{image}.png",
            "bbox": box,
            "pos_expression": [positive],
            "neg_expression": negatives,
            "category_id": 0,
            "neg_category_ids": [],
            "width": 64,
            "height": 64,
            "image_id": 0,
            "sent_id": 0,
            "test_type": "x",
        }

    rows = [
        row("a", left, "A red cup.", ["A blue cup.", "A green cup.", "A yellow cup."]),
        row("a", right, "A blue cup.", ["A red cup.", "A green cup.", "A yellow cup."]),
        row("b", left, "A blue cup.", ["A red cup.", "A green cup.", "A yellow cup."]),
        row(
            "b", right, "A blue wooden cup.", ["A blue metal cup.", "A red wooden cup."]
        ),  # color alone ties with metal
    ]
    folder = tmp_path / "fgovd"
    folder.mkdir()
    for name in ("h_attributes", "m_attributes", "e_attributes", "shuffle_negatives"):
        (folder / f"{name}_llava.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path


def test_fgovd_known_answer_control_ties_and_breakdown(fgovd, color_model):
    result = run(color_model, "fgovd", data=fgovd)
    assert list(result.scores) == ["hard", "medium", "easy", "trivial"]
    hard = result.scores["hard"]
    assert (hard.value, hard.count, hard.ties) == (0.5, 4, 1)
    assert hard.chance == pytest.approx((3 / 4 + 1 / 3) / 4)
    assert hard.low <= hard.value <= hard.high
    # By hand: image a's rows get image b's regions and the other way round. Where left meets left, rows 1 and 2 win; where
    # left meets right, row 3 alone; row 4 never (its tie). So each of the five runs gives 2/4 or 1/4.
    assert round(20 * hard.control, 6) in range(5, 11)
    color, material = result.breakdown["color"]["hard"], result.breakdown["material"]["hard"]
    assert (color.count, color.value) == (4, 0.75)  # row 4 beats "red wooden"
    assert (material.count, material.value, material.ties) == (1, 0.0, 1)
    assert result.data["rows_hard_other_than_3_negatives"] == 1
    assert result.settings["region_features_made_by"] == "mean color of a cell"


def test_images_boxes_and_texts_are_encoded_once(fgovd, color_model):
    run(color_model, "fgovd", data=fgovd)
    assert color_model.images_encoded == 2  # four files, sixteen rows, two images
    assert len(color_model.texts_encoded) == len(set(color_model.texts_encoded)) == 7


def test_fgovd_from_crops_gives_the_same_answers(fgovd, color_model):
    crops = evaluate_model(color_model, tasks={"fgovd": {"data": fgovd}}, region_features="crop", progress=False)[
        "fgovd"
    ]
    assert crops.scores["hard"].value == 0.5
    assert crops.settings["region_features"] == "crop"


def test_fgovd_subsets_and_missing_images(fgovd, color_model):
    assert list(run(color_model, "fgovd", data=fgovd, subsets=("hard",)).scores) == ["hard"]
    (fgovd / "coco/val2017/b.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 images are missing .*b\.png.*\n.*It wants(.|\n)*--allow_missing"):
        run(color_model, "fgovd", data=fgovd)
    result = run(color_model, "fgovd", data=fgovd, allow_missing=True)
    assert (result.scores["hard"].count, result.scores["hard"].value) == (2, 1.0)
    assert (result.data["images_missing"], result.data["rows_left_out"]) == (1, 8)
    (fgovd / "coco/val2017/b.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"b\.png cannot be decoded"):
        run(color_model, "fgovd", data=fgovd)
    assert run(color_model, "fgovd", data=fgovd, allow_missing=True).scores["hard"].count == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neg_expression": []}, "row 0 has no negative caption"),
        ({"bbox": [70.0, 0.0, 10.0, 10.0]}, "inverted or empty, or lies wholly outside"),
        ({"bbox": [0.0, 0.0, 0.0, 10.0]}, "inverted or empty, or lies wholly outside"),
        ({"bbox": [float("nan"), 0.0, 5.0, 5.0]}, "no finite number"),
        ({"width": 640}, r"line 1: .*declares 640×64 pixels, the picture has 64×64"),
        ({"img_path": "../../etc/passwd"}, "could leave its root"),
        ({"pos_expression": ["a", "b"]}, "one positive caption; got 2"),
        (
            {"bbox": [1, 2]},
            r"h_attributes_llava\.jsonl, line 1: malformed \(bbox .* must be 4 numbers; got \[1, 2\]\)",
        ),
        ({"bbox": [1, 2, 3, "wide"]}, r"h_attributes_llava\.jsonl, line 1: malformed \(bbox .* must be 4 numbers"),
        (
            {"height": "tall"},
            r"h_attributes_llava\.jsonl, line 1: malformed \(width and height must be positive numbers",
        ),
        (
            {"neg_expression": "A red cup."},
            r"line 1: malformed \(neg_expression must be a list of texts; got 'A red cup.'",
        ),
        (
            {"neg_expression": ["A red cup.", None]},
            r"line 1: malformed \(neg_expression\[1\] must be a text; got None",
        ),
        ({"img_path": "val2017\\a.png"}, r"line 1: .*could leave its root"),
    ],
)
def test_fgovd_bad_rows_are_errors(fgovd, color_model, change, message):
    file = fgovd / "fgovd/h_attributes_llava.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0] |= change
    if "width" in change:  # all rows of an image must agree
        rows = [row | change for row in rows]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=message):
        run(color_model, "fgovd", data=fgovd, subsets=("hard",))


def test_a_box_partly_outside_is_clipped_and_counted(fgovd, color_model):
    file = fgovd / "fgovd/h_attributes_llava.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["bbox"] = [-20.0, 0.0, 52.0, 64.0]
    file.write_text("\n".join(map(json.dumps, rows)))
    result = run(color_model, "fgovd", data=fgovd, subsets=("hard",))
    assert (result.data["boxes_clipped"], result.scores["hard"].value) == (1, 0.5)


def test_a_line_of_another_encoding_is_found_by_its_number(fgovd, color_model):
    file = fgovd / "fgovd/h_attributes_llava.jsonl"
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([*lines[:2], lines[2].replace(b"blue", b"bl\xfce"), lines[3]]))
    with pytest.raises(ValueError, match=r"h_attributes_llava\.jsonl, line 3: malformed \(UnicodeDecodeError"):
        run(color_model, "fgovd", data=fgovd, subsets=("hard",))


def test_a_subset_without_rows_is_named(fgovd, color_model):
    (fgovd / "fgovd/e_attributes_llava.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"no row of the subset easy in its files"):
        run(color_model, "fgovd", data=fgovd)
    with pytest.raises(ValueError, match=r"has the subsets hard, .* got none"):
        run(color_model, "fgovd", data=fgovd, subsets=())


def test_trivial_has_no_attribute_groups_and_frequent_classes_have_their_own(fgovd, color_model):
    rows = [json.loads(line) for line in (fgovd / "fgovd/h_attributes_llava.jsonl").read_text().splitlines()]
    first, second = rows[0], rows[1]
    bottle = second | {"pos_expression": ["A blue bottle."], "neg_expression": ["A red bottle."]}
    for name, cups, bottles in (("h_attributes", 30, 29), ("shuffle_negatives", 30, 31)):
        content = (
            [first] * cups
            + [bottle] * (bottles - 1)
            + [bottle | {"pos_expression": ["A red bottle."], "neg_expression": ["A blue bottle."]}]
        )
        (fgovd / f"fgovd/{name}_llava.jsonl").write_text("\n".join(map(json.dumps, content)))
    result = run(color_model, "fgovd", data=fgovd, subsets=("hard", "trivial"))
    assert list(result.breakdown["color"]) == ["hard"]
    assert list(result.breakdown) == ["color", "class: bottle", "class: cup"]  # 60 and 60 rows in all
    assert {name: score.count for name, score in result.breakdown["class: cup"].items()} == {"hard": 30, "trivial": 30}
    bottles = result.breakdown["class: bottle"]  # 29 of hard are too few
    assert {name: (score.count, round(score.value, 6)) for name, score in bottles.items()} == {
        "trivial": (31, round(30 / 31, 6))
    }


PUBLISHED = {"hard": 3545, "medium": 2968, "easy": 1299, "trivial": 3545}


@pytest.mark.skipif(
    "FGCLIP_FGOVD" not in os.environ, reason="FGCLIP_FGOVD does not name the folder of the published files"
)
def test_the_published_files_hold_no_malformed_row(tmp_path):
    annotations = Path(os.environ["FGCLIP_FGOVD"]).absolute()
    task = make_task(
        "fgovd", {"data": annotations.parent, "annotations": annotations.name, "images": annotations.name}
    )
    data = task.load()
    assert {name: len(rows) for name, rows in data.items()} == PUBLISHED
    assert len({row.image for rows in data.values() for row in rows}) == 1_707
    kinds = {
        name: Counter(
            kind for row in rows for text in row.texts[1:] for kind in changed_attributes(row.texts[0], text)
        )
        for name, rows in data.items()
    }
    assert kinds["hard"] == {"color": 16_968, "material": 15_916, "pattern": 1_576, "transparency": 807}
    assert kinds["medium"]["color"] == 25_273
    boxes = [Boxes(row.box[None], row.size).normalized() for rows in data.values() for row in rows]
    clip_boxes(boxes, [str(row.image.path) for rows in data.values() for row in rows])  # none is empty or outside
