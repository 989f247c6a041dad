"""torchvision's region proposal network with F-ViT's anchors, matching and loss."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from eval.detection.config import DetectorConfig
from eval.detection.pyramid import STRIDES


class StridedAnchors(AnchorGenerator):
    """Anchors at true strides. torchvision rounds them down, so that with patches of 14 they miss a seventh of the image.

    Args:
        patch: side of a patch in pixels.
    """

    def __init__(self, patch: int, config: DetectorConfig):
        self.strides = [patch * stride for stride in STRIDES]
        super().__init__(
            tuple((config.anchor_scale * stride,) for stride in self.strides), (config.anchor_ratios,) * len(STRIDES)
        )

    def generate_anchors(
        self, scales: list[float], aspect_ratios: list[float], dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> torch.Tensor:
        """(ratios, 4) anchors around 0. Not rounded to pixels, as in mmdet."""
        heights = torch.tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        widths, heights = scales[0] / heights, scales[0] * heights
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2

    def forward(self, image_list: ImageList, feature_maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """(A, 4) anchors in pixels, the same for each image: they lie around the corner of each cell, as in mmdet."""
        dtype, device = feature_maps[0].dtype, feature_maps[0].device
        self.set_cell_anchors(dtype, device)
        anchors = []
        for features, stride, cell in zip(feature_maps, self.strides, self.cell_anchors, strict=True):
            rows, columns = (torch.arange(size, device=device) * stride for size in features.shape[-2:])
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            shifts = torch.stack([x, y, x, y], dim=-1).to(dtype).view(-1, 1, 4)
            anchors.append((shifts + cell).view(-1, 4))
        return [torch.cat(anchors)] * len(image_list.image_sizes)


class MatchWithFloor(Matcher):
    """An object's best anchor counts as its own only from an overlap on (mmdet's min_pos_iou)."""

    def __init__(self, config: DetectorConfig):
        super().__init__(config.rpn_positive_iou, config.rpn_negative_iou, allow_low_quality_matches=True)
        self.floor = config.rpn_best_match_iou

    def set_low_quality_matches_(
        self, matches: torch.Tensor, all_matches: torch.Tensor, match_quality_matrix: torch.Tensor
    ) -> None:
        best = match_quality_matrix.amax(dim=1, keepdim=True)  # (objects, 1)
        anchors = ((match_quality_matrix == best) & (best >= self.floor)).any(dim=0)
        matches[anchors] = all_matches[anchors]


class Proposals(RegionProposalNetwork):
    """Class-agnostic boxes; the loss of the boxes is L1."""

    def __init__(self, patch: int, config: DetectorConfig):
        anchors = StridedAnchors(patch, config)
        before, after = ({"training": n, "testing": n} for n in (config.rpn_before_nms, config.proposals))
        super().__init__(
            anchors,
            RPNHead(config.channels, len(config.anchor_ratios), conv_depth=config.rpn_convs),
            config.rpn_positive_iou,
            config.rpn_negative_iou,
            config.rpn_samples,
            config.rpn_positive_share,
            before,
            after,
            config.rpn_nms,
        )
        self.proposal_matcher = MatchWithFloor(config)

    def compute_loss(
        self,
        objectness: torch.Tensor,
        pred_bbox_deltas: torch.Tensor,
        labels: list[torch.Tensor],
        regression_targets: list[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Binary cross-entropy, and L1 over the positive anchors, both divided by the number of sampled anchors."""
        positive, negative = (torch.cat(chosen).nonzero()[:, 0] for chosen in self.fg_bg_sampler(labels))
        sampled = torch.cat([positive, negative])
        box_loss = F.l1_loss(pred_bbox_deltas[positive], torch.cat(regression_targets)[positive], reduction="sum")
        objectness_loss = F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], torch.cat(labels)[sampled])
        return objectness_loss, box_loss / len(sampled)
