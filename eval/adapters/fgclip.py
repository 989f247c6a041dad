"""FG-CLIP: the model's own methods, behind the interface of the tasks."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor, nn

from eval.adapters.base import Inputs, ModelAdapter, VisionLayers
from eval.adapters.clip import clip_layers
from modeling_fgclip import FGCLIPModel, FGCLIPProcessor, pack_texts
from modeling_fgclip.eight_bit_images import eight_bit_images, normalized_images, pixel_levels
from modeling_fgclip.packed_text import ROWS


class FGCLIPAdapter(ModelAdapter):
    """An FG-CLIP checkpoint or a model in memory.

    Resolution and text lengths come from the processor, so fg-clip-large is read at 336 without being told.
    """

    long_text = True
    shares_prefixes = True
    dense_kind = "last block without attention, RoIAlign 1×1"

    def __init__(self, model: FGCLIPModel, processor: FGCLIPProcessor, name: str = "FG-CLIP"):
        self.model: nn.Module = model
        self.processor, self.name = processor, name

    @classmethod
    def from_pretrained(cls, checkpoint: str, **kwargs: Any) -> FGCLIPAdapter:
        """Load model and processor; `kwargs` (revision, …) go to both."""
        model = FGCLIPModel.from_pretrained(checkpoint, **kwargs)
        return cls(model, FGCLIPProcessor.from_pretrained(checkpoint, **kwargs), name=checkpoint)

    def preprocess(self, images: Sequence[Image.Image], squash: bool) -> Inputs:
        return {"pixel_values": eight_bit_images(self.processor, images)}

    @functools.cached_property
    def _levels(self) -> Tensor:
        return pixel_levels(self.processor)

    def _pixels(self, inputs: Inputs) -> Tensor:
        pixels = inputs["pixel_values"]
        return pixels if pixels.is_floating_point() else normalized_images(pixels, self._levels.to(pixels.device))

    def encode_images(self, inputs: Inputs) -> Tensor:
        return self.model.get_image_features(self._pixels(inputs))

    def tokenize(self, texts: Sequence[str], kind: str) -> Inputs:
        token_ids = self.processor.encode_texts(texts, long_text=kind == "long")
        rows = ROWS if len(texts) >= ROWS else 1  # to few texts it would add more than it saves
        return pack_texts(token_ids, [kind == "long"] * len(texts), share_prefixes=True, rows=rows)

    def encode_texts(self, inputs: Inputs, kind: str) -> Tensor:
        return self.model.get_packed_text_features(inputs)

    def encode_dense(self, inputs: Inputs) -> Tensor:
        pixels = self._pixels(inputs)
        patch = self.model.config.vision_config.patch_size
        dense = self.model.get_image_dense_features(pixels)  # (N, h*w, D)
        return dense.unflatten(1, (pixels.shape[-2] // patch, pixels.shape[-1] // patch))

    def encode_regions(self, inputs: Inputs, boxes: Tensor) -> Tensor:
        filled = boxes[..., 2] > boxes[..., 0]  # padding is zeros
        return self.model.get_region_features(self._pixels(inputs), boxes, box_mask=filled, normalized=True)

    def fingerprint(self) -> str:
        """As of every adapter, and what the pixels become on the device."""
        return hashlib.sha256(super().fingerprint().encode() + self._levels.numpy().tobytes()).hexdigest()

    def vision_layers(self) -> VisionLayers:
        return clip_layers(self.model.vision_model, self.processor.image_processor)

    def settings(self) -> dict[str, Any]:
        size = self.processor.image_size
        return {
            "model": self.name,
            "architecture": "FG-CLIP",
            "resolution": f"{size}×{size}",
            "resize": "squash",
            "text_length_short": self.processor.short_text_length,
            "text_length_long": self.processor.long_text_length,
        }
