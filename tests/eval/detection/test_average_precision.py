"""AP against numbers made by hand, and against a version that goes through the recalls one by one."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_scripts.ov_coco import DetectionData, DetectionImage
from eval.detection.average_precision import Matches, match, mean_intervals


def image(number: int, boxes: list[list[float]], labels: list[int], crowd: list[bool] | None = None) -> DetectionImage:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    areas = (array[:, 2:] - array[:, :2]).prod(1).astype(np.float64)
    return DetectionImage(
        number, f"{number}.jpg", (100, 100), array, np.array(labels), np.array(crowd or [False] * len(labels)), areas
    )


def result(number: int, category: int, box: list[float], score: float) -> dict:
    x1, y1, x2, y2 = box
    return {"image_id": number, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}


A, B, C = [0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 90, 90]
# Ids are other people's: 0, which pycocotools takes for "no match", and numbers with gaps.
DATA = DetectionData([image(0, [A, B], [0, 1]), image(5, [C], [0])], [7, 0])


def test_the_truth_as_detections_gives_everything() -> None:
    found = [result(0, 7, A, 0.9), result(0, 0, B, 0.2), result(5, 7, C, 0.5)]
    scores, matches = match(DATA, found)
    assert scores.tolist() == pytest.approx([1.0, 1.0])
    assert [one.average_precision() for one in matches] == pytest.approx([1.0, 1.0])


def test_numbers_made_by_hand() -> None:
    """Class 7 has two boxes. Best first: a hit, a miss, a hit: precision 1 up to a recall of 1/2, then 2/3."""
    found = [result(0, 7, A, 0.9), result(0, 7, B, 0.8), result(5, 7, C, 0.7)]
    scores, matches = match(DATA, found)
    expected = (51 * 1.0 + 50 * 2 / 3) / 101
    np.testing.assert_allclose(scores, [expected, 0.0], rtol=1e-12)
    assert matches[0].average_precision() == pytest.approx(expected, rel=1e-12)
    assert matches[1].average_precision() == 0


def test_overlap_of_exactly_a_half_counts_and_a_second_hit_does_not() -> None:
    half = [0, 0, 10, 5]
    scores, _ = match(DATA, [result(0, 7, half, 0.9), result(0, 7, A, 0.8), result(5, 7, C, 0.7)])
    # The half box takes A; A itself, found later, has nothing left: hit, miss, hit.
    np.testing.assert_allclose(scores[0], (51 + 50 * 2 / 3) / 101, rtol=1e-12)


def test_a_crowd_is_neither_to_be_found_nor_wrong() -> None:
    data = DetectionData([image(1, [A, C], [0, 0], [False, True])], [7])
    inside_crowd = [55, 55, 60, 60]
    scores, matches = match(data, [result(1, 7, inside_crowd, 0.95), result(1, 7, A, 0.9)])
    assert scores.tolist() == pytest.approx([1.0])
    assert matches[0].average_precision() == pytest.approx(1.0)
    assert matches[0].boxes.tolist() == [1]


def test_a_class_without_boxes_has_no_score() -> None:
    data = DetectionData([image(1, [A], [0])], [7, 8])
    scores, matches = match(data, [result(1, 8, B, 0.5)])
    assert np.isnan(scores[1])
    assert np.isnan(matches[1].average_precision())


@pytest.mark.parametrize("seed", range(5))
def test_our_ap_of_drawn_images_is_pycocotools_own(seed: int) -> None:
    """The one for the bootstrap, on random boxes; drawing every image once must not change it."""
    random = np.random.default_rng(seed)
    images, found = [], []
    for number in range(12):
        corners = random.uniform(0, 60, (4, 2))
        boxes = np.concatenate([corners, corners + random.uniform(5, 40, (4, 2))], axis=1)
        images.append(image(number, boxes.tolist(), random.integers(0, 3, 4).tolist()))
        for box in np.repeat(boxes, 3, axis=0):
            moved = box + random.normal(0, 4, 4)
            if (moved[2:] > moved[:2]).all():
                score = round(float(random.uniform()), 1)  # with ties
                found.append(result(number, int(random.integers(3)), moved.tolist(), score))
    scores, matches = match(DetectionData(images, [0, 1, 2]), found)
    np.testing.assert_allclose([one.average_precision() for one in matches], scores, rtol=1e-12)
    # Twice every image is the same data twice: the same precision at every recall.
    np.testing.assert_allclose([one.average_precision(np.full(12, 2.0)) for one in matches], scores, rtol=1e-9)


def test_intervals_hold_the_value_and_shrink_to_it_without_doubt() -> None:
    sure = Matches(np.ones(4), np.ones(4, bool), np.zeros(4, bool), np.arange(4), np.ones(4))
    half = Matches(np.ones(4), np.array([True, False, True, False]), np.zeros(4, bool), np.arange(4), np.ones(4))
    intervals = mean_intervals([sure, half], {"sure": [0], "half": [1], "both": [0, 1]})
    assert intervals["sure"] == pytest.approx((1.0, 1.0))
    low, high = intervals["half"]
    assert low < half.average_precision() < high
    assert intervals["both"][0] > low


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 99}, r"results\[0\] is of image 99"),
        ({"category_id": 3}, "category 3"),
        ({"bbox": [1, 2, 3]}, "four finite numbers"),
        ({"score": float("nan")}, "finite"),
    ],
)
def test_results_of_something_else_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match(DATA, [result(0, 7, A, 0.9) | change])
    with pytest.raises(ValueError, match="needs image_id"):
        match(DATA, [{"score": 1}])
