"""CLIP of transformers, and Long-CLIP checkpoints in that form (248 text positions)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor, nn
from transformers import CLIPModel, CLIPProcessor
from transformers.image_utils import PILImageResampling

from eval.adapters.base import Inputs, ModelAdapter, VisionLayers
from eval.adapters.dense import KIND, as_map, each_token_alone, input_of
from modeling_fgclip.checked_loading import load_checked
from modeling_fgclip.text_checks import read_literally


def clip_layers(vision: nn.Module, image_processor: Any) -> VisionLayers:
    """Of transformers' CLIP or SigLIP 2 vision encoder and their subclasses."""
    return VisionLayers(
        vision.encoder.layers,
        vision.post_layernorm,
        vision.config.patch_size,
        vision.config.hidden_size,
        image_processor.image_mean,
        image_processor.image_std,
    )


class CLIPAdapter(ModelAdapter):
    """Whole images by the checkpoint's own preprocessing (resize and crop), regions on the squashed image."""

    dense_kind = f"{KIND}, RoIAlign 1×1"

    def __init__(self, model: CLIPModel, processor: CLIPProcessor, name: str = "CLIP"):
        self.model, self.processor, self.name = model, processor, name
        read_literally(processor.tokenizer)
        self.size = model.config.vision_config.image_size
        self.length = model.config.text_config.max_position_embeddings
        self.long_text = self.length > 77

    @classmethod
    def from_pretrained(cls, checkpoint: str, **kwargs: Any) -> CLIPAdapter:
        """Load model and processor; `kwargs` (revision, …) go to both."""
        model = load_checked(CLIPModel.from_pretrained, checkpoint, **kwargs)
        return cls(model, CLIPProcessor.from_pretrained(checkpoint, **kwargs), checkpoint)

    def preprocess(self, images: Sequence[Image.Image], squash: bool) -> Inputs:
        changes: dict[str, Any] = {}
        if squash:
            size = {"height": self.size, "width": self.size}
            changes = {
                "do_resize": True,
                "size": size,
                "do_center_crop": False,
                "resample": PILImageResampling.BICUBIC,
            }
        return {
            "pixel_values": self.processor.image_processor(list(images), return_tensors="pt", **changes)[
                "pixel_values"
            ]
        }

    def encode_images(self, inputs: Inputs) -> Tensor:
        return self.model.get_image_features(**inputs).pooler_output

    def tokenize(self, texts: Sequence[str], kind: str) -> Inputs:
        return dict(
            self.processor.tokenizer(
                list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt"
            )
        )

    def encode_texts(self, inputs: Inputs, kind: str) -> Tensor:
        return self.model.get_text_features(**inputs).pooler_output

    def encode_dense(self, inputs: Inputs) -> Tensor:
        vision = self.model.vision_model
        block = vision.encoder.layers[-1]
        tokens = input_of(block, lambda: self.model.get_image_features(**inputs))[:, 1:]  # without CLS
        tokens = each_token_alone(lambda token: block(token, None), tokens)
        height, width = (
            side // self.model.config.vision_config.patch_size for side in inputs["pixel_values"].shape[-2:]
        )
        return as_map(self.model.visual_projection(vision.post_layernorm(tokens)), height, width)

    def vision_layers(self) -> VisionLayers:
        return clip_layers(self.model.vision_model, self.processor.image_processor)

    def inputs_of_pixels(self, pixel_values: Tensor) -> Inputs:
        return {"pixel_values": pixel_values, "interpolate_pos_encoding": True}

    def settings(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "architecture": "Long-CLIP" if self.long_text else "CLIP",
            "resolution": f"{self.size}×{self.size}",
            "resize": "the checkpoint's own; squash for regions",
            "text_length_short": self.length,
            "text_length_long": self.length,
        }
