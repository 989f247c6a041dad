import math

import pytest
import torch
from torch.testing import assert_close

from modeling_fgclip.region_pooling import interpolation_weights, pool_regions


def naive_roi_align(features: torch.Tensor, box: torch.Tensor, bins: int = 1) -> torch.Tensor:
    """RoIAlign by its definition: bilinear samples on a grid, one after the other. (H, W, D), (4,) -> (D,)."""
    height, width, channels = features.shape
    x1, y1, x2, y2 = (box - 0.5).tolist()
    cells = []
    for bin_y in range(bins):
        for bin_x in range(bins):
            size_y, size_x = (y2 - y1) / bins, (x2 - x1) / bins
            points_y, points_x = max(math.ceil(size_y), 1), max(math.ceil(size_x), 1)
            total = torch.zeros(channels)
            for i in range(points_y):
                for j in range(points_x):
                    y = y1 + bin_y * size_y + (i + 0.5) * size_y / points_y
                    x = x1 + bin_x * size_x + (j + 0.5) * size_x / points_x
                    total += bilinear(features, y, x, height, width)
            cells.append(total / (points_y * points_x))
    return torch.stack(cells).mean(0)


def bilinear(features: torch.Tensor, y: float, x: float, height: int, width: int) -> torch.Tensor:
    if y < -1 or y > height or x < -1 or x > width:
        return torch.zeros(features.shape[-1])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = (1 - dx) * features[top, left] + dx * features[top, right]
    lower = (1 - dx) * features[bottom, left] + dx * features[bottom, right]
    return (1 - dy) * upper + dy * lower


@pytest.mark.parametrize("bins", [1, 2, 3])
def test_matches_the_definition(bins):
    height, width = 5, 7
    features = torch.randn(2, height, width, 3)
    corners = torch.rand(2, 40, 2, 2).sort(dim=2).values * torch.tensor([width, height])
    boxes = corners.flatten(2)  # (2, 40, 4)
    boxes[:, 0] = torch.tensor([0.0, 0.0, width, height])
    pooled = pool_regions(features, boxes, bins)
    for image in range(2):
        for index in range(40):
            assert_close(pooled[image, index], naive_roi_align(features[image], boxes[image, index], bins))


def test_whole_cell_is_that_cell():
    features = torch.randn(1, 4, 4, 8)
    assert_close(pool_regions(features, torch.tensor([[[2.0, 1.0, 3.0, 2.0]]]))[0, 0], features[0, 1, 2])


def test_weights_sum_to_one_and_to_zero_for_an_empty_interval():
    weights = interpolation_weights(torch.tensor([0.0, 1.3, 2.0]), torch.tensor([4.0, 1.9, 2.0]), 4)
    assert_close(weights.sum(-1), torch.tensor([1.0, 1.0, 0.0]))


def test_gradient():
    features = torch.randn(1, 3, 4, 2, dtype=torch.float32, requires_grad=True)
    boxes = torch.tensor([[[0.4, 0.7, 3.1, 2.6], [0.0, 0.0, 0.0, 0.0]]])
    pool_regions(features, boxes).sum().backward()
    # One box whose weights sum to 1, read in every channel.
    assert_close(features.grad.sum((0, 1, 2)), torch.ones(2))


def test_half_precision():
    features = torch.randn(1, 4, 4, 8)
    boxes = torch.tensor([[[0.5, 0.5, 3.5, 2.0]]])
    pooled = pool_regions(features.bfloat16(), boxes)
    assert pooled.dtype == torch.bfloat16
    assert_close(pooled.float(), pool_regions(features, boxes), atol=2e-2, rtol=2e-2)
