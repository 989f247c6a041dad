"""RoIAlign with one output cell, as a matrix product.

Bilinear interpolation is a product of a weight along y and a weight along x, and averaging over a grid of sampling
points keeps that product. Pooling K boxes on an H x W map is therefore one (K, H * W) by (H * W, D) product: it
is differentiable, runs in any dtype on any device, and exports without a compiled operator.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from .packed_text import ROWS


def interpolation_weights(start: torch.Tensor, end: torch.Tensor, size: int, bins: int = 1) -> torch.Tensor:
    """Mean bilinear weights of the sampling points of each interval on an axis of `size` cells.

    The sampling grid is that of RoIAlign (He et al., 2017) as in torchvision's `roi_align(aligned=True,
    sampling_ratio=-1)`: ceil(length / bins) evenly spaced points a bin.

    Args:
        start, end: (...) interval ends in feature-map units, 0 to `size`.
        size: cells of the axis.
        bins: bins into which the interval is divided before they are averaged.

    Returns:
        (..., size) weights in float32. They sum to 1, and to 0 for an empty interval.
    """
    start, end = start.float(), end.float()
    length = (end - start).clamp(min=0)
    points = bins * torch.ceil(length / bins)  # (...)
    # A fixed number of candidates keeps shapes static; those past an interval's own count get weight 0.
    candidate = torch.arange(bins * -(-size // bins), device=start.device)
    step = length / points.clamp(min=1)
    position = start.unsqueeze(-1) - 0.5 + (candidate + 0.5) * step.unsqueeze(-1)  # (..., candidates)
    # Half a cell around the map counts as its edge, what lies further out as zero.
    counted = (candidate < points.unsqueeze(-1)) & (position >= -1) & (position <= size)
    position = position.clamp(0, size - 1)
    cell = torch.arange(size, device=start.device)
    weight = (1 - (position.unsqueeze(-1) - cell).abs()).clamp(min=0)  # (..., candidates, size)
    weight = (weight * counted.unsqueeze(-1)).sum(dim=-2)
    return weight / points.clamp(min=1).unsqueeze(-1)


def region_weights(boxes: torch.Tensor, height: int, width: int, bins: int = 1) -> torch.Tensor:
    """(N, K, H * W) float32: what each cell of a map counts for each box; zeros for an empty box.

    Args:
        boxes: (N, K, 4) xyxy in feature-map units: x from 0 to W, y from 0 to H.
        bins: bins a side of a box, averaged.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)  # (N, K) each
    along_y = interpolation_weights(y1, y2, height, bins)  # (N, K, H)
    along_x = interpolation_weights(x1, x2, width, bins)  # (N, K, W)
    return (along_y.unsqueeze(-1) * along_x.unsqueeze(-2)).flatten(2)


def pool_regions(features: torch.Tensor, boxes: torch.Tensor, bins: int = 1) -> torch.Tensor:
    """Pools each box of each image to one vector (paper, section 3.1: RoIAlign, then the average).

    Args:
        features: (N, H, W, D) dense features.
        boxes, bins: as of `region_weights`.

    Returns:
        (N, K, D) in the dtype of `features`; zeros for an empty box.
    """
    weights = region_weights(boxes, *features.shape[1:3], bins)
    return torch.bmm(weights.to(features.dtype), features.flatten(1, 2))


def pool_seen_regions(
    patches: torch.Tensor,
    dense: Callable[[torch.Tensor], torch.Tensor],
    boxes: torch.Tensor,
    height: int,
    width: int,
    bins: int = 1,
) -> torch.Tensor:
    """`pool_regions` of dense features that are made only of patches under a box.

    Args:
        patches: (N, H * W, D) hidden states of which dense features are made, each by itself.
        dense: makes (P, E) features of any (P, D) of them.
        boxes, height, width, bins: as of `region_weights`.

    Returns:
        (N, K, E).
    """
    weights = region_weights(boxes, height, width, bins)  # (N, K, H * W)
    places = (weights != 0).any(1).flatten().nonzero().squeeze(-1)  # (P,) of N * H * W
    filled = F.pad(places, (0, -len(places) % ROWS))  # with the first patch
    seen = dense(patches.flatten(0, 1).index_select(0, filled))[: len(places)]
    features = seen.new_zeros(weights.shape[0] * weights.shape[2], seen.shape[-1]).index_copy(0, places, seen)
    return torch.bmm(weights.to(features.dtype), features.unflatten(0, weights.shape[::2]))


def boxes_on_map(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Normalized boxes (N, K, 4) in units of a map."""
    # Not a tensor of the four sides, which would fix them when exported.
    return torch.stack([boxes[..., 0::2] * width, boxes[..., 1::2] * height], dim=-1).flatten(-2)


# Sampling points of one bin lie more than half a cell apart, so at most 4 of them fall within one cell of a cell's center;
# one more on either side stands for rounding.
_POINTS_NEAR_A_CELL = 6


def weights_at(start: torch.Tensor, end: torch.Tensor, size: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
    """`interpolation_weights` of one bin at single cells, on axes of different sizes and whatever these are.

    Args:
        start, end: (…) interval ends in feature-map units, 0 to `size`; all four broadcast.
        size: (…) cells of the axis.
        cell: (…) cells from 0, of which those past the axis get weights without meaning.
    """
    start, end = start.float(), end.float()
    length = (end - start).clamp(min=0)
    points = torch.ceil(length)
    first_position = start - 0.5 + 0.5 * length / points.clamp(min=1)
    # With a single point the distance to the next one does not matter; otherwise it is above one half.
    step = torch.where(points > 1, length / points.clamp(min=1), 1)
    nearest = torch.ceil((cell - 1 - first_position) / step)
    weight = torch.zeros_like(nearest)
    for offset in range(-1, _POINTS_NEAR_A_CELL - 1):
        point = nearest + offset
        position = first_position + point * step
        counted = (point >= 0) & (point < points) & (position >= -1) & (position <= size)
        position = torch.minimum(position.clamp(min=0), size - 1)
        weight = weight + (1 - (position - cell).abs()).clamp(min=0) * counted
    return weight / points.clamp(min=1)


def pool_ragged_regions(
    features: torch.Tensor, boxes: torch.Tensor, spatial_shapes: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """`pool_regions` for images of different grids.

    Args:
        features: (N, P, D) dense features, row by row, each image's own grid first and padding after it.
        boxes: (N, K, 4) xyxy, normalized to [0, 1].
        spatial_shapes: (N, 2) rows and columns of each image.
        mask: (N, P), false for padding.

    Returns:
        (N, K, D) in the dtype of `features`; zeros for an empty box.
    """
    rows, columns = spatial_shapes[:, :, None, None].unbind(1)  # (N, 1, 1) each
    patch = torch.arange(features.shape[1], device=features.device)
    x1, y1, x2, y2 = boxes.unsqueeze(-1).unbind(2)  # (N, K, 1) each
    along_y = weights_at(y1 * rows, y2 * rows, rows, patch // columns)  # (N, K, P)
    along_x = weights_at(x1 * columns, x2 * columns, columns, patch % columns)
    weights = (along_y * along_x).masked_fill(~mask.bool().unsqueeze(1), 0)
    return torch.bmm(weights.to(features.dtype), features)
