"""torchvision's RoI heads with text embeddings as the classifier, F-ViT's losses, and the ensemble with the encoder."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes, roi_align

from eval.detection.config import DetectorConfig
from eval.detection.ensemble import ensemble
from eval.detection.pyramid import STRIDES, norm_layer
from eval.detection.vocabulary import Vocabulary
from modeling_fgclip.region_pooling import pool_regions


class LevelPooling(nn.Module):
    """RoIAlign (aligned, adaptive sampling) on the level of the pyramid that fits a box's size (Lin et al., 2017).

    torchvision's own rounds strides to powers of two and guesses them from the images before they were padded.
    """

    def __init__(self, patch: int, config: DetectorConfig):
        super().__init__()
        self.scales = [1 / (patch * stride) for stride in STRIDES[:4]]
        self.size, self.base = config.roi_size, config.roi_base

    def forward(self, features: list[torch.Tensor], boxes: list[torch.Tensor]) -> torch.Tensor:
        """Boxes in pixels of N images → (boxes together, channels, size, size)."""
        image = torch.cat([box.new_full((len(box), 1), index) for index, box in enumerate(boxes)])
        together = torch.cat(boxes)
        area = (together[:, 2:] - together[:, :2]).clamp(min=0).prod(1)
        level = (area.sqrt() / self.base + 1e-6).log2().floor().clamp(0, len(self.scales) - 1)
        rois = torch.cat([image, together], dim=1)
        pooled = features[0].new_zeros(len(rois), features[0].shape[1], self.size, self.size)
        for number, (feature, scale) in enumerate(zip(features, self.scales, strict=False)):
            chosen = (level == number).nonzero()[:, 0]
            found = roi_align(
                feature, rois[chosen].to(feature.dtype), self.size, scale, sampling_ratio=-1, aligned=True
            )
            pooled = pooled.index_copy(0, chosen, found)
        return pooled


class BoxHead(nn.Module):
    """Convolutions and two linear layers shared by class and box, then a linear layer for each.

    Args:
        width: of the text embeddings.
    """

    def __init__(self, width: int, config: DetectorConfig):
        super().__init__()
        norm, channels = norm_layer(config), config.channels
        self.convs = nn.Sequential(
            *(
                layer
                for _ in range(config.head_convs)
                for layer in (nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm(channels), nn.ReLU())
            )
        )
        self.shared = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * config.roi_size**2, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        # F-ViT keeps the last ReLU of the class branch, though cosines with it are never below zero on all axes.
        self.to_class = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.to_box = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        self.log_temperature = nn.Parameter(torch.tensor([math.log(config.temperature)]))

    def forward(self, pooled: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(K, channels, s, s) and (1 + C, width) embeddings → (K, 1 + C) logits and (K, 4) box deltas."""
        shared = self.shared(self.convs(pooled))
        with torch.autocast(shared.device.type, enabled=False):
            embedding = F.normalize(self.to_class(shared.float()), dim=-1)
            logits = embedding @ classes.T * self.log_temperature.exp()
            return logits, self.to_box(shared.float())


class TextRoIHeads(RoIHeads):
    """Classifies proposals by text embeddings. Boxes do not depend on the class.

    Args:
        vocabulary: classes of the labels, 1 to C; may be replaced by another at any time.
    """

    def __init__(self, patch: int, vocabulary: Vocabulary, config: DetectorConfig):
        super().__init__(
            LevelPooling(patch, config),
            BoxHead(vocabulary.embeddings.shape[1], config),
            None,
            config.roi_iou,
            config.roi_iou,
            config.roi_samples,
            config.roi_positive_share,
            tuple(1 / deviation for deviation in config.box_deviations),
            config.score_threshold,
            config.nms,
            config.detections,
        )
        self.config = config
        self.vocabulary = vocabulary

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        device = next(self.parameters()).device
        self.register_buffer("classes", vocabulary.embeddings.to(device), persistent=False)
        self.register_buffer("is_base", vocabulary.is_base.to(device), persistent=False)

    def forward(
        self,
        features: dict[str, torch.Tensor],
        proposals: list[torch.Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, torch.Tensor]] | None = None,
        dense: torch.Tensor | None = None,
    ) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
        """Losses in training, else boxes, labels (1 to C) and scores of each image.

        Args:
            features: the pyramid. proposals: boxes of each image, in pixels. dense: (N, h, w, D) of the frozen encoder.
        """
        if self.training:
            proposals, _, labels, box_targets = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(list(features.values()), proposals)
        logits, deltas = self.box_head(pooled, self.classes)
        if self.training:
            return [], self._losses(logits, deltas, torch.cat(labels), torch.cat(box_targets))
        scores = ensemble(
            logits,
            self._encoder_logits(dense, proposals),
            self.is_base,
            self.config.base_weight,
            self.config.novel_weight,
        )
        boxes = self.box_coder.decode(deltas, proposals)[:, 0]
        counts = [len(boxes) for boxes in proposals]
        found = zip(boxes.split(counts), scores.split(counts), image_shapes, strict=True)
        return [self._select(*one) for one in found], {}

    def _losses(
        self, logits: torch.Tensor, deltas: torch.Tensor, labels: torch.Tensor, box_targets: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Both are sums over the sampled proposals divided by their number, not by the sum of their weights."""
        weight = torch.ones(logits.shape[1], device=logits.device)
        weight[0] = self.config.background_weight
        chosen = labels > 0
        return {
            "loss_class": F.cross_entropy(logits, labels, weight, reduction="sum") / len(labels),
            "loss_box": F.l1_loss(deltas[chosen], box_targets[chosen], reduction="sum") / len(labels),
        }

    def _encoder_logits(self, dense: torch.Tensor, proposals: list[torch.Tensor]) -> torch.Tensor:
        """(K, 1 + C) scaled cosines of the encoder's own features of the proposals."""
        dense = dense.float()
        if self.config.clip_pooling == "normalize_first":
            dense = F.normalize(dense, dim=-1)
        scale = dense.shape[1] / self.config.image_size
        pooled = [pool_regions(one[None], boxes[None] * scale)[0] for one, boxes in zip(dense, proposals, strict=True)]
        return F.normalize(torch.cat(pooled), dim=-1) @ self.classes.T * self.config.clip_temperature

    def _select(self, boxes: torch.Tensor, scores: torch.Tensor, shape: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Boxes (K, 4) and scores (K, C) of an image → the best after suppression within each class."""
        box, label = (scores > self.score_thresh).nonzero(as_tuple=True)
        boxes, scores, labels = clip_boxes_to_image(boxes, shape)[box], scores[box, label], label + 1
        large = remove_small_boxes(boxes, min_size=1e-2)
        boxes, scores, labels = boxes[large], scores[large], labels[large]
        kept = batched_nms(boxes, scores, labels, self.nms_thresh)[: self.detections_per_img]
        return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]}
