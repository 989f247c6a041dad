"""The detection task on files of results; detecting itself is tested with torchvision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from eval.embed import Embedder
from eval.tasks import make_task
from eval.tasks.ov_coco import turned
from tests.eval.color_model import ColorModel

CLASSES = {"base": ["red", "blue"], "novel": ["white"]}
BOXES = {1: ("red", [0, 0, 20, 20]), 2: ("blue", [30, 10, 10, 30]), 3: ("white", [5, 5, 40, 40])}
CATEGORIES = {"red": 10, "blue": 20, "white": 30, "dog": 40}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 50, "height": 50} for n in BOXES],
        "categories": [{"id": number, "name": name} for name, number in CATEGORIES.items()],
        "annotations": [
            {"id": n - 1, "image_id": n, "category_id": CATEGORIES[name], "bbox": box}
            for n, (name, box) in BOXES.items()
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    return tmp_path


def score(data: Path, results: list[dict], **options: str):
    (data / "results.json").write_text(json.dumps(results))
    task = {"data": data, "annotations": "instances.json", "classes": "classes.json", "results": "results.json"}
    return make_task("ov_coco", task | options).run(Embedder(ColorModel(), progress=False))


def test_the_truth_scores_everything_and_each_group_is_its_own(data: Path) -> None:
    truth = [
        {"image_id": n, "category_id": CATEGORIES[name], "bbox": box, "score": 0.5} for n, (name, box) in BOXES.items()
    ]
    result = score(data, truth)
    assert {name: one.value for name, one in result.scores.items()} == pytest.approx({"novel": 1, "base": 1, "all": 1})
    assert {name: one.count for name, one in result.scores.items()} == {"novel": 1, "base": 2, "all": 3}
    assert result.breakdown["novel: white"]["AP50"].value == pytest.approx(1)
    half = score(data, [one for one in truth if one["category_id"] != 20])
    assert {name: one.value for name, one in half.scores.items()} == pytest.approx(
        {"novel": 1, "base": 0.5, "all": 2 / 3}
    )
    assert half.scores["base"].low <= 0.5 <= half.scores["base"].high


def test_what_is_no_result_is_refused_with_its_place(data: Path) -> None:
    good = {"image_id": 1, "category_id": 10, "bbox": [0, 0, 1, 1], "score": 0.1}
    for change, message in (
        ({"image_id": 9}, r"results\[1\] is of image 9"),
        ({"category_id": 40}, "category 40"),
        ({"bbox": "x"}, "bbox"),
    ):
        with pytest.raises(ValueError, match=message):
            score(data, [good, good | change])
    with pytest.raises(ValueError, match="either detector=FOLDER or results=FILE"):
        score(data, [good], detector=str(data))
    (data / "results.json").write_text("nothing")
    task = {"data": data, "annotations": "instances.json", "classes": "classes.json", "results": "results.json"}
    with pytest.raises(ValueError, match="no file of COCO results"):
        make_task("ov_coco", task).load()


def test_boxes_go_back_to_the_stored_picture() -> None:
    """A phone's picture of 30 x 20 stored pixels that is shown turned by 90 degrees clockwise (orientation 6)."""
    stored = torch.tensor([[3.0, 4, 12, 18]])
    upright = turned(stored, (30, 20), (20, 30), 6)
    assert_close(upright, torch.tensor([[2.0, 3, 16, 12]]))
    assert_close(turned(upright, (20, 30), (30, 20), 8), stored)
