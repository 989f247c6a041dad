"""SigLIP and SigLIP 2 of transformers, fixed resolution and NaFlex."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoModel, AutoProcessor, Siglip2Model, SiglipModel
from transformers.image_utils import PILImageResampling

from eval.adapters.base import Inputs, ModelAdapter
from eval.adapters.dense import KIND, as_map, each_token_alone, input_of
from modeling_fgclip.checked_loading import load_checked
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

    def tokenize(self, texts: Sequence[str], long: bool) -> Inputs:
        # Padding to the full length is part of the model: it was trained so, and attends to the padding.
        return dict(
            self.processor.tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
            )
        )

    def encode_texts(self, inputs: Inputs, long: bool) -> Tensor:
        return self.model.get_text_features(**inputs).pooler_output

    def encode_dense(self, inputs: Inputs) -> Tensor:
        vision = self.model.vision_model
        block = vision.encoder.layers[-1]
        tokens = input_of(block, lambda: self.model.get_image_features(**inputs))
        tokens = each_token_alone(lambda token: block(token, None), tokens)
        return as_map(each_token_alone(vision.head, vision.post_layernorm(tokens)), *self.grid(inputs))

    def grid(self, inputs: Inputs) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = inputs["pixel_values"].shape[-2:]
        return height // self.patch, width // self.patch

    def settings(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "architecture": self.architecture,
            "resolution": f"{self.size}×{self.size}",
            "resize": "squash",
            "text_length_short": self.length,
            "text_length_long": self.length,
        }


class Siglip2NaFlexAdapter(SiglipAdapter):
    """SigLIP 2 NaFlex: whole images keep their aspect ratio, regions are read on the squashed image, a full square of patches."""

    architecture = "SigLIP 2 NaFlex"

    @property
    def size(self) -> int:
        return self.patch * math.isqrt(self.processor.image_processor.max_num_patches)

    def preprocess(self, images: Sequence[Image.Image], squash: bool) -> Inputs:
        if squash:
            images = [image.resize((self.size, self.size), PILImageResampling.BICUBIC) for image in images]
        inputs = self.processor.image_processor(list(images), return_tensors="pt")
        return {name: inputs[name] for name in ("pixel_values", "pixel_attention_mask", "spatial_shapes")}

    def grid(self, inputs: Inputs) -> tuple[int, int]:
        shapes = inputs["spatial_shapes"]
        height, width = shapes[0].tolist()
        if (shapes != shapes[0]).any() or height * width != inputs["pixel_values"].shape[1]:
            raise ValueError("dense NaFlex features need squashed images: preprocess(images, squash=True).")
        return height, width

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"resize": "aspect ratio kept; squash for regions"}
