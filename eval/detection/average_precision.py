"""AP at an overlap of 0.5, by pycocotools, with bootstrap intervals over images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataset_scripts.ov_coco import DetectionData
from modeling_fgclip.extras import missing_extra

IOU = 0.5
MAX_DETECTIONS = 1000  # an image; the detector gives 100
_RECALLS = np.linspace(0, 1, 101)


def require_pycocotools() -> Any:
    """pycocotools' modules.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ValueError(missing_extra("AP needs pycocotools", "detection")) from None
    return COCO, COCOeval


@dataclass
class Matches:
    """How the detections of one class met its boxes, in pycocotools' order: images in order, best first in each.

    Attributes:
        scores: (D,). correct: (D,) booleans. ignored: (D,) booleans: matched a crowd, counts as nothing.
        image: (D,) index of each detection's image. boxes: (images,) how many boxes there are to be found.
    """

    scores: np.ndarray
    correct: np.ndarray
    ignored: np.ndarray
    image: np.ndarray
    boxes: np.ndarray

    def average_precision(self, times: np.ndarray | None = None) -> float:
        """Mean of the interpolated precision at 101 recalls, as in COCO; NaN for a class without a box.

        Args:
            times: (images,) how often each image counts; None: once.
        """
        times = np.ones(len(self.boxes)) if times is None else times
        total = float(times @ self.boxes)
        if not total:
            return float("nan")
        order = np.argsort(-self.scores, kind="mergesort")
        weight = times[self.image[order]] * ~self.ignored[order]
        hits = np.cumsum(weight * self.correct[order])
        all_of_them = np.cumsum(weight)
        precision = hits / np.maximum(all_of_them, np.finfo(np.float64).tiny)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        place = np.searchsorted(hits / total, _RECALLS, side="left")
        return float(np.append(precision, 0.0)[np.minimum(place, len(precision))].mean())


def match(data: DetectionData, results: Sequence[dict[str, Any]]) -> tuple[np.ndarray, list[Matches]]:
    """Matches detections with boxes by pycocotools.

    Args:
        data: images and boxes; crowds are ignored, as in COCO.
        results: COCO's result format: image_id, category_id, bbox (x, y, width, height in pixels), score.

    Returns:
        (C,) AP at IoU 0.5 of each class as pycocotools gives it, NaN without a box, and the matches of each class.

    Raises:
        ValueError: a result of an unknown image or category, or one that is malformed.
    """
    check_results(data, results)
    truth_class, evaluation_class = require_pycocotools()
    number = {image.id: index for index, image in enumerate(data.images)}
    label = {category: index for index, category in enumerate(data.category_ids)}
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = truth_class(), truth_class()
        truth.dataset = {**_header(data), "annotations": _annotations(data)}
        found.dataset = {
            **_header(data),
            "annotations": [_as_annotation(n, r, number, label) for n, r in enumerate(results, 1)],
        }
        truth.createIndex()
        found.createIndex()
        evaluation = evaluation_class(truth, found, "bbox")
        evaluation.params.iouThrs = np.array([IOU])
        evaluation.params.maxDets = [1, 100, MAX_DETECTIONS]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # (101, C); -1 where there is no box
    scores = np.where((precision == -1).all(0), np.nan, precision.mean(0))
    images = len(data.images)
    by_class = [evaluation.evalImgs[start : start + images] for start in range(0, len(evaluation.evalImgs), images)]
    return scores, [_matches(one) for one in by_class]


def _header(data: DetectionData) -> dict[str, Any]:
    # Numbers of our own: ids of others may be anything, and an annotation 0 is "no match" to pycocotools.
    images = [{"id": n, "width": image.size[0], "height": image.size[1]} for n, image in enumerate(data.images)]
    return {"images": images, "categories": [{"id": n, "name": str(n)} for n in range(len(data.category_ids))]}


def _annotations(data: DetectionData) -> list[dict[str, Any]]:
    entries = []
    for number, image in enumerate(data.images):
        for box, label, crowd, area in zip(image.boxes, image.labels, image.crowd, image.areas, strict=True):
            x1, y1, x2, y2 = box.tolist()
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    return entries


def _as_annotation(
    number: int, result: dict[str, Any], images: dict[Any, int], labels: dict[Any, int]
) -> dict[str, Any]:
    image, label, (_, _, width, height) = images[result["image_id"]], labels[result["category_id"]], result["bbox"]
    place = {"id": number, "image_id": image, "category_id": label, "area": width * height, "iscrowd": 0}
    return {"bbox": list(result["bbox"]), "score": result["score"], **place}


def _matches(of_images: list[dict[str, Any] | None]) -> Matches:
    """From pycocotools' records of one class, one an image; None where there is neither box nor detection."""
    present = [(index, one) for index, one in enumerate(of_images) if one is not None]
    boxes = np.zeros(len(of_images))
    for index, one in present:
        boxes[index] = np.count_nonzero(np.asarray(one["gtIgnore"]) == 0)
    return Matches(
        np.concatenate([one["dtScores"] for _, one in present] or [np.empty(0)]),
        np.concatenate([one["dtMatches"][0] > 0 for _, one in present] or [np.empty(0, bool)]),
        np.concatenate([one["dtIgnore"][0] > 0 for _, one in present] or [np.empty(0, bool)]),
        np.concatenate([np.full(len(one["dtScores"]), index) for index, one in present] or [np.empty(0, int)]),
        boxes,
    )


def check_results(data: DetectionData, results: Sequence[dict[str, Any]]) -> None:
    """Raises:
    ValueError: no list of results, or one that names an unknown image or category or is malformed; names the entry.
    """
    if not isinstance(results, list | tuple):
        raise ValueError("results must be a list of objects with image_id, category_id, bbox and score.")
    images, categories = {image.id for image in data.images}, set(data.category_ids)
    for number, result in enumerate(results):
        where = f"results[{number}]"
        if not isinstance(result, dict) or not {"image_id", "category_id", "bbox", "score"} <= set(result):
            raise ValueError(f"{where} needs image_id, category_id, bbox and score; got {str(result)[:100]}.")
        if result["image_id"] not in images:
            raise ValueError(f"{where} is of image {result['image_id']!r}, which the annotations do not list.")
        if result["category_id"] not in categories:
            raise ValueError(f"{where} is of category {result['category_id']!r}, which is none of those evaluated.")
        values = [*result["bbox"], result["score"]] if isinstance(result["bbox"], list | tuple) else []
        if len(values) != 5 or not np.isfinite(np.asarray(values, np.float64)).all():
            raise ValueError(f"{where}: bbox must be four finite numbers and score one; got {str(result)[:100]}.")


def mean_intervals(
    matches: Sequence[Matches], groups: dict[str, Sequence[int]], draws: int = 200, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % bootstrap interval, over images, of the mean AP of each group of classes.

    Args:
        groups: name → classes.
    """
    random = np.random.default_rng(seed)
    images = len(matches[0].boxes)
    drawn: dict[str, list[float]] = {name: [] for name in groups}
    for _ in range(draws):
        times = np.bincount(random.integers(images, size=images), minlength=images).astype(np.float64)
        scores = np.array([one.average_precision(times) for one in matches])
        for name, classes in groups.items():
            chosen = scores[list(classes)]
            if not np.isnan(chosen).all():
                drawn[name].append(float(np.nanmean(chosen)))
    return {
        name: tuple(np.quantile(values, [0.025, 0.975]).tolist()) if values else (float("nan"),) * 2
        for name, values in drawn.items()
    }
