"""Step 3: boxes for the expressions, by an open-vocabulary detector (paper, 3.2: YOLO-World, score above 0.4, NMS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..models.boxes import non_maximum_suppression
from ..settings import operational
from .step import Step

if TYPE_CHECKING:
    from ..models.detectors import Detections, Detector


@dataclass
class GroundingSettings:
    """The detector and what of its output is kept.

    `ground` is the text that the detector is given: the full expression as in the paper, or the noun chunk as in
    Kosmos-2. `class_agnostic` suppresses overlaps between expressions too, so that one object gets one box. Sizes are
    fractions of the image: `min_side` of each side, `min_area` and `max_area` of the area.
    """

    detector: str = "google/owlv2-base-patch16-ensemble"
    ground: str = "long"
    threshold: float = 0.4
    nms_iou: float = 0.5
    class_agnostic: bool = True
    min_side: float = 0.01
    min_area: float = 0.001
    max_area: float = 1.0
    max_per_expression: int = 1
    max_regions: int = 32
    keep_regions: bool = True
    batch_size: int = operational(8)
    device: str = operational("auto")
    dtype: str = "auto"
    trust_remote_code: bool = False
    trust_pickle: bool = False  # YOLO-World's .pt files

    def __post_init__(self) -> None:
        if self.ground not in ("long", "short"):
            raise ValueError(f"grounding.ground is {self.ground!r}; it must be long or short.")
        for name in ("threshold", "nms_iou", "min_side", "min_area", "max_area"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"grounding.{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        for name in ("max_per_expression", "max_regions", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"grounding.{name} is {getattr(self, name)}; it must be 1 or more.")


class Grounding(Step):
    """Column `regions` from images and `expressions`. Regions that the record brought stay, if `keep_regions`."""

    Settings = GroundingSettings
    reads = ("expressions",)
    writes = ("regions",)
    images = True
    large = True

    def __init__(self, settings: GroundingSettings, detector: Detector | None = None) -> None:
        super().__init__(settings)
        if detector is None:
            from ..models.detectors import make_detector

            detector = make_detector(
                settings.detector, settings.device, settings.dtype, settings.trust_remote_code, settings.trust_pickle
            )
        self.detector = detector

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        regions = [list(row) if self.settings.keep_regions else [] for row in batch["regions"]]
        failures = [list(row) for row in batch["failures"]]
        rows = [i for i, expressions in enumerate(batch["expressions"]) if expressions]
        for start in range(0, len(rows), self.settings.batch_size):
            part = rows[start : start + self.settings.batch_size]
            texts = [[e[self.settings.ground] for e in batch["expressions"][i]] for i in part]
            found = self.detector.detect([batch["image"][i] for i in part], texts, self.settings.threshold)
            for i, detections in zip(part, found, strict=True):
                new = select(detections, batch["expressions"][i], self.settings)
                regions[i].extend(new)
                if not new:
                    failures[i].append("grounding: nothing found")
        return {**batch, "regions": regions, "failures": failures}


def select(
    detections: Detections, expressions: list[dict[str, str]], settings: GroundingSettings
) -> list[dict[str, Any]]:
    """Regions of one image: clipped, filtered by score and size, suppressed, best first."""
    boxes = detections.boxes.nan_to_num(0.0).clamp(0.0, 1.0)
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides.clamp(min=0).prod(-1)
    good = (detections.scores > settings.threshold) & (sides > settings.min_side).all(-1)
    good &= (area >= settings.min_area) & (area <= settings.max_area)
    index = good.nonzero().flatten().tolist()
    boxes, scores = boxes[index], detections.scores[index]
    owner = [detections.expressions[i] for i in index]
    kept = _suppress(boxes, scores, owner, settings)
    regions: list[dict[str, Any]] = []
    used: dict[int, int] = {}
    for i in kept:
        if used.get(owner[i], 0) < settings.max_per_expression and len(regions) < settings.max_regions:
            used[owner[i]] = used.get(owner[i], 0) + 1
            expression = expressions[owner[i]]
            regions.append(
                {
                    "bbox": boxes[i].tolist(),
                    "score": float(scores[i]),
                    "short_expr": expression["short"],
                    "long_expr": expression["long"],
                    "negatives": [],
                }
            )
    return regions


def _suppress(boxes: torch.Tensor, scores: torch.Tensor, owner: list[int], settings: GroundingSettings) -> list[int]:
    """Indices kept, by falling score."""
    if settings.class_agnostic:
        return non_maximum_suppression(boxes, scores, settings.nms_iou)
    kept = []
    for expression in sorted(set(owner)):
        mine = [i for i, o in enumerate(owner) if o == expression]
        kept += [mine[i] for i in non_maximum_suppression(boxes[mine], scores[mine], settings.nms_iou)]
    return sorted(kept, key=lambda i: (-float(scores[i]), i))
