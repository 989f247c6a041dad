"""RoIAlign with one output cell, as a matrix product.

Bilinear interpolation is a product of a weight along y and a weight along x, and averaging over a grid of sampling
points keeps that product. Pooling K boxes on an H x W map is therefore one (K, H * W) by (H * W, D) product: it
is differentiable, runs in any dtype on any device, and exports without a compiled operator.
"""

import torch


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


def pool_regions(features: torch.Tensor, boxes: torch.Tensor, bins: int = 1) -> torch.Tensor:
    """Pools each box of each image to one vector (paper, section 3.1: RoIAlign, then the average).

    Args:
        features: (N, H, W, D) dense features.
        boxes: (N, K, 4) xyxy in feature-map units: x from 0 to W, y from 0 to H.
        bins: bins a side of a box, averaged.

    Returns:
        (N, K, D) in the dtype of `features`; zeros for an empty box.
    """
    _, height, width, _ = features.shape
    x1, y1, x2, y2 = boxes.unbind(-1)  # (N, K) each
    along_y = interpolation_weights(y1, y2, height, bins)  # (N, K, H)
    along_x = interpolation_weights(x1, x2, width, bins)  # (N, K, W)
    weights = along_y.unsqueeze(-1) * along_x.unsqueeze(-2)  # (N, K, H, W)
    return torch.bmm(weights.flatten(2).to(features.dtype), features.flatten(1, 2))
