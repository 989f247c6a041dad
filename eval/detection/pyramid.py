"""From the taps of one resolution to the five levels of a feature pyramid."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from eval.detection.config import DetectorConfig

# Of the finest to the coarsest level, in patches.
STRIDES = (0.25, 0.5, 1.0, 2.0, 4.0)
_GROUPS = 32


def norm_layer(config: DetectorConfig) -> Callable[[int], nn.Module]:
    """channels → a normalization of their maps."""
    if config.norm == "group":
        return lambda channels: nn.GroupNorm(math.gcd(_GROUPS, channels), channels)
    return nn.SyncBatchNorm if config.norm == "sync_batch" else nn.BatchNorm2d


class Pyramid(nn.Module):
    """F-ViT's neck: the first tap 4 times as fine, the second 2 times, the last one half as fine; then an FPN.

    Args:
        width: of the taps.
    """

    def __init__(self, width: int, config: DetectorConfig):
        super().__init__()
        up = partial(nn.ConvTranspose2d, width, width, kernel_size=2, stride=2)
        norm = norm_layer(config)
        self.resize = nn.ModuleList(
            [nn.Sequential(up(), norm(width), nn.GELU(), up()), up(), nn.Identity(), nn.MaxPool2d(2)]
        )
        self.fpn = FeaturePyramidNetwork([width] * 4, config.channels, LastLevelMaxPool(), norm)

    def forward(self, taps: list[torch.Tensor]) -> OrderedDict[str, torch.Tensor]:
        """Four (N, width, h, w) maps to five (N, channels, ·, ·), finest first."""
        maps = OrderedDict(
            (str(level), resize(tap)) for level, (resize, tap) in enumerate(zip(self.resize, taps, strict=True))
        )
        return self.fpn(maps)
