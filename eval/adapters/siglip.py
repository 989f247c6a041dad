"""SigLIP and SigLIP 2 of transformers, fixed resolution and NaFlex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoModel, AutoProcessor, Siglip2Model, SiglipModel

from eval.adapters.base import Inputs, ModelAdapter, one_grid
from eval.adapters.dense import KIND, as_map, each_token_alone, input_of
from modeling_fgclip.checked_loading import load_checked
from modeling_fgclip.region_pooling import pool_ragged_regions
from modeling_fgclip.text_checks import read_literally


class SiglipAdapter(ModelAdapter):
    """SigLIP, and SigLIP 2 of fixed resolution, which is the same architecture.

    The pooling head attends as well; for dense features every token goes through the last block and the head alone.
    """

    dense_kind = f"{KIND}, pooling head on every token alone, RoIAlign 1×1"
    architecture = "SigLIP"

    def __init__(self, model: SiglipModel | Siglip2Model, processor: Any, name: str = "SigLIP"):
        self.model, self.processor, self.name = model, processor, name
        read_literally(processor.tokenizer)
        self.length = model.config.text_config.max_position_embeddings
        self.patch = model.config.vision_config.patch_size

    @classmethod
    def from_pretrained(cls, checkpoint: str, **kwargs: Any) -> SiglipAdapter:
        """Load model and processor; `kwargs` (revision, …) go to both."""
        model = load_checked(AutoModel.from_pretrained, checkpoint, **kwargs)
        return cls(model, AutoProcessor.from_pretrained(checkpoint, **kwargs), checkpoint)

    @property
    def size(self) -> int:
        """Side of the square that images are squashed to."""
        return self.model.config.vision_config.image_size

    def preprocess(self, images: Sequence[Image.Image], squash: bool) -> Inputs:
        # SigLIP's own preprocessing squashes already.
        return {"pixel_values": self.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]}

    def encode_images(self, inputs: Inputs) -> Tensor:
        return self.model.get_image_features(**inputs).pooler_output

    def tokenize(self, texts: Sequence[str], kind: str) -> Inputs:
        # Padding to the full length is part of the model: it was trained so, and attends to the padding.
        return dict(
            self.processor.tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
            )
        )

    def encode_texts(self, inputs: Inputs, kind: str) -> Tensor:
        return self.model.get_text_features(**inputs).pooler_output

    def encode_dense(self, inputs: Inputs) -> Tensor:
        return as_map(self._dense(inputs), *self.grid(inputs))

    def _dense(self, inputs: Inputs) -> Tensor:
        """(N, P, D)."""
        vision = self.model.vision_model
        block = vision.encoder.layers[-1]
        tokens = input_of(block, lambda: self.model.get_image_features(**inputs))
        tokens = each_token_alone(lambda token: block(token, None), tokens)
        return each_token_alone(vision.head, vision.post_layernorm(tokens))

    def grid(self, inputs: Inputs) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = inputs["pixel_values"].shape[-2:]
        return height // self.patch, width // self.patch

    def settings(self) -> dict[str, Any]:
        return self._settings(f"{self.size}×{self.size}")

    def _settings(self, resolution: str) -> dict[str, Any]:
        return {
            "model": self.name,
            "architecture": self.architecture,
            "resolution": resolution,
            "resize": "squash",
            "text_length_short": self.length,
            "text_length_long": self.length,
        }


class Siglip2NaFlexAdapter(SiglipAdapter):
    """SigLIP 2 NaFlex: images keep their aspect ratio, for regions too, on the patch budget of the checkpoint."""

    architecture = "SigLIP 2 NaFlex"

    def preprocess(self, images: Sequence[Image.Image], squash: bool) -> Inputs:
        inputs = self.processor.image_processor(list(images), return_tensors="pt")
        return {name: inputs[name] for name in ("pixel_values", "pixel_attention_mask", "spatial_shapes")}

    def grid(self, inputs: Inputs) -> tuple[int, int]:
        return one_grid(self.name, inputs["spatial_shapes"])

    def encode_dense(self, inputs: Inputs) -> Tensor:
        rows, columns = self.grid(inputs)
        return as_map(self._dense(inputs)[:, : rows * columns], rows, columns)

    def encode_regions(self, inputs: Inputs, boxes: Tensor) -> Tensor:
        dense = self._dense(inputs).float()
        return pool_ragged_regions(dense, boxes, inputs["spatial_shapes"], inputs["pixel_attention_mask"])

    def settings(self) -> dict[str, Any]:
        budget = self.processor.image_processor.max_num_patches
        resolution = f"up to {budget} patches of {self.patch}×{self.patch}"
        return self._settings(resolution) | {"resize": "aspect ratio kept"}
