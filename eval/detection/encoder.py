"""The frozen encoder: features after some blocks for the detector, and the dense map in the space of the texts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import nn

from eval.adapters.base import ModelAdapter


class FrozenEncoder(nn.Module):
    """Any adapter with dense features as a backbone that never changes: no gradient, always in eval mode.

    Args:
        adapter: of FG-CLIP, FG-CLIP 2, CLIP, EVA-CLIP …
        taps: blocks, from 0, after which features are taken. The last one runs without attention (MaskCLIP) where the
            dense map does; FG-CLIP 2 has a dense head instead. Its tap is what comes before the final norm.
        image_size: side of the images in pixels.

    Raises:
        ValueError: taps that do not fit the encoder, a patch that does not divide the size, an encoder without dense
            features.
    """

    def __init__(self, adapter: ModelAdapter, taps: Sequence[int], image_size: int):
        super().__init__()
        self.adapter = adapter
        self.model = adapter.model.eval().requires_grad_(False)
        layers = adapter.vision_layers()
        self.taps, self.patch, self.width = tuple(taps), layers.patch, layers.width
        self._blocks, self._norm = layers.blocks, layers.final_norm
        if self.taps[-1] != len(self._blocks) - 1:
            raise ValueError(
                f"taps end with block {self.taps[-1]}, and {adapter.name} has {len(self._blocks)} blocks, from 0 to "
                f"{len(self._blocks) - 1}; the last tap must be the last block."
            )
        if image_size % self.patch:
            raise ValueError(
                f"image_size {image_size} is not a multiple of the patch of {self.patch} pixels of {adapter.name}; choose "
                f"{image_size // self.patch * self.patch} or {-(-image_size // self.patch) * self.patch}."
            )

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stays in eval mode, whatever the detector does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixel_values: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Normalized images to taps and dense map.

        Args:
            pixel_values: (N, 3, S, S).

        Returns:
            Four (N, width, S / patch, S / patch) maps, and the (N, S / patch, S / patch, D) dense map, not normalized.
        """
        found: dict[int, torch.Tensor] = {}
        with ExitStack() as stack:
            for tap in self.taps[:-1]:
                hook = self._blocks[tap].register_forward_hook(
                    lambda module, args, out, tap=tap: found.update({tap: out})
                )
                stack.callback(hook.remove)
            hook = self._norm.register_forward_pre_hook(lambda module, args: found.update({self.taps[-1]: args[0]}))
            stack.callback(hook.remove)
            dense = self.adapter.encode_dense(self.adapter.inputs_of_pixels(pixel_values))
        height, width = dense.shape[1:3]
        return [self._as_map(found[tap], height, width) for tap in self.taps], dense

    def _as_map(self, hidden: torch.Tensor | tuple, height: int, width: int) -> torch.Tensor:
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # (N, class token and patches, D)
        patches = hidden[:, -height * width :]
        return patches.transpose(1, 2).unflatten(2, (height, width)).float()
