"""Every number of the detector, with its source: F-ViT as CLIPSelf published it (Wu et al., 2024), on a frozen encoder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Norm = Literal["sync_batch", "batch", "group"]

# What F-ViT feeds its encoders, though EVA-CLIP and CLIP were trained with CLIP's statistics.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DetectorConfig:
    """Settings of the detector. Defaults are F-ViT's for ViT-B/16 on OV-COCO; recipes hold the others.

    Args:
        image_size: side of the square that every image is padded to, in pixels (640 for B, 896 for L).
        taps: blocks of the encoder after which features are taken, from 0; the last one must be the last block, which
            runs without attention (MaskCLIP; FG-CLIP 2 has a dense head instead). F-ViT: 3, 5, 7, 11 for B; 6, 10, 14, 23 for L.
        channels: of the pyramid and of the heads' convolutions.
        norm: of pyramid and heads. "sync_batch" (F-ViT) needs a GPU; "group" gives the same on any number of processes.
        imagenet_statistics: normalize pixels by ImageNet's mean and deviation, as F-ViT does, not by the encoder's own.
        anchor_scale, anchor_ratios: side of an anchor in strides, and height / width.
        rpn_convs: convolutions before the proposals' two outputs.
        rpn_positive_iou, rpn_negative_iou, rpn_best_match_iou: an anchor is an object above the first, background below
            the second; an object's best anchor counts from the third.
        rpn_samples, rpn_positive_share: anchors an image in the loss.
        rpn_before_nms, rpn_nms, proposals: best anchors a level, overlap, and what is left of an image.
        roi_size: cells a side of RoIAlign. roi_base: side in pixels of a box that belongs to the finest level.
        head_convs: convolutions before the two linear layers, which are as wide as the text embeddings.
        roi_iou, roi_samples, roi_positive_share: proposals an image in the loss.
        box_deviations: of the regression targets.
        background_weight: of the background in the classification loss.
        temperature: factor of the detector's cosines where training starts; learned.
        clip_temperature: factor of the encoder's cosines in the ensemble (75; 50 on LVIS).
        base_weight, novel_weight: alpha and beta, the encoder's share of a score for base and for novel classes.
        clip_pooling: "normalize_first" pools the encoder's map after each place was normalized (F-ViT); "pool_first"
            is `get_region_features`.
        score_threshold, nms, detections: of the result of an image.
    """

    image_size: int = 640
    taps: tuple[int, ...] = (3, 5, 7, 11)
    channels: int = 256
    norm: Norm = "sync_batch"
    imagenet_statistics: bool = False
    anchor_scale: float = 8.0
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_convs: int = 2
    rpn_positive_iou: float = 0.7
    rpn_negative_iou: float = 0.3
    rpn_best_match_iou: float = 0.3
    rpn_samples: int = 256
    rpn_positive_share: float = 0.5
    rpn_before_nms: int = 2000
    rpn_nms: float = 0.7
    proposals: int = 1000
    roi_size: int = 7
    roi_base: float = 56.0
    head_convs: int = 4
    roi_iou: float = 0.5
    roi_samples: int = 512
    roi_positive_share: float = 0.25
    box_deviations: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    background_weight: float = 0.6
    temperature: float = 50.0
    clip_temperature: float = 75.0
    base_weight: float = 0.1
    novel_weight: float = 0.8
    clip_pooling: Literal["normalize_first", "pool_first"] = "normalize_first"
    score_threshold: float = 0.01
    nms: float = 0.4
    detections: int = 100

    def __post_init__(self) -> None:
        for name in ("taps", "anchor_ratios", "box_deviations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("base_weight", "novel_weight", "background_weight", "rpn_positive_share", "roi_positive_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share between 0 and 1; received {getattr(self, name)}.")
        for name in ("image_size", "channels", "anchor_scale", "proposals", "roi_size", "temperature", "detections"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0; received {getattr(self, name)}.")
        if len(self.taps) != 4 or list(self.taps) != sorted(set(self.taps)) or self.taps[0] < 0:
            raise ValueError(f"taps are four blocks in rising order, counted from 0; received {self.taps}.")
        if self.norm not in ("sync_batch", "batch", "group"):
            raise ValueError(f"norm is one of sync_batch, batch and group; received {self.norm!r}.")
        if self.clip_pooling not in ("normalize_first", "pool_first"):
            raise ValueError(f"clip_pooling is normalize_first or pool_first; received {self.clip_pooling!r}.")

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DetectorConfig:
        """Raises:
        ValueError: a key that is no setting, or a value out of range.
        """
        if unknown := sorted(set(values) - set(cls.__dataclass_fields__)):
            raise ValueError(f"There is no detector setting {', '.join(unknown)}.")
        return cls(**values)
