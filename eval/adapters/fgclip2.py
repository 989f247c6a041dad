"""FG-CLIP 2: the model's own methods, behind the interface of the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor, nn

from eval.adapters.base import Inputs, ModelAdapter, VisionLayers, one_grid
from eval.adapters.clip import clip_layers
from modeling_fgclip import FGCLIP2Model, FGCLIP2Processor, pack_full_texts
from modeling_fgclip.image_processing_fgclip2 import IMAGE_INPUTS
from modeling_fgclip.naflex_vision import cut_into_patches

# By kind of text of the tasks.
HEADS = {"short": "short", "long": "long", "region": "box"}


class FGCLIP2Adapter(ModelAdapter):
    """An FG-CLIP 2 checkpoint or a model in memory.

    Images keep their aspect, for regions too; each has its own patch budget. Phrases of regions are read by the box head.
    """

    long_text = True
    region_text = True
    dense_kind = "dense head (attention pooling of every patch), RoIAlign 1×1 on the image's own grid"

    def __init__(self, model: FGCLIP2Model, processor: FGCLIP2Processor, name: str = "FG-CLIP 2"):
        self.model: nn.Module = model
        self.processor, self.name = processor, name

    @classmethod
    def from_pretrained(cls, checkpoint: str, **kwargs: Any) -> FGCLIP2Adapter:
        """Load model and processor; `kwargs` (revision, …) go to both."""
        model = FGCLIP2Model.from_pretrained(checkpoint, **kwargs)
        return cls(model, FGCLIP2Processor.from_pretrained(checkpoint, **kwargs), name=checkpoint)

    def preprocess(self, images: Sequence[Image.Image], squash: bool) -> Inputs:
        return dict(self.processor(images=list(images)))

    def encode_images(self, inputs: Inputs) -> Tensor:
        return self.model.get_image_features(**inputs)

    def preprocess_for_classes(self, images: Sequence[Image.Image]) -> Inputs:
        return dict(self.processor(images=list(images), max_num_patches=self._class_budget))

    @property
    def _class_budget(self) -> int:
        """ImageNet's published protocol: every image fills the largest budget, 1,024 patches."""
        images = self.processor.image_processor
        return images.max_num_patches or images.patch_budgets[-1]

    def tokenize(self, texts: Sequence[str], kind: str) -> Inputs:
        return self._tokenize(texts, kind, lower_case=True)

    def tokenize_as_written(self, texts: Sequence[str], kind: str) -> Inputs:
        return self._tokenize(texts, kind, lower_case=False)

    def _tokenize(self, texts: Sequence[str], kind: str, lower_case: bool) -> Inputs:
        token_ids = self.processor.encode_texts(texts, long_text=kind == "long", lower_case=lower_case)
        lengths = self.processor.short_text_length, self.processor.long_text_length
        pad = self.processor.tokenizer.pad_token_id
        return pack_full_texts(token_ids, [HEADS[kind]] * len(texts), *lengths, pad)

    def encode_texts(self, inputs: Inputs, kind: str) -> Tensor:
        return self.model.get_packed_text_features(inputs)

    def encode_dense(self, inputs: Inputs) -> Tensor:
        rows, columns = one_grid(self.name, inputs["spatial_shapes"])
        dense = self.model.get_image_dense_feature(**inputs)
        return dense[:, : rows * columns].unflatten(1, (rows, columns))

    def encode_regions(self, inputs: Inputs, boxes: Tensor) -> Tensor:
        filled = boxes[..., 2] > boxes[..., 0]  # padding is zeros
        images = {name: inputs[name] for name in IMAGE_INPUTS}
        return self.model.get_region_features(**images, boxes=boxes, box_mask=filled)

    def vision_layers(self) -> VisionLayers:
        return clip_layers(self.model.vision_model, self.processor.image_processor)

    def inputs_of_pixels(self, pixel_values: Tensor) -> Inputs:
        patches = cut_into_patches(pixel_values, self.model.config.vision_config.patch_size)
        return dict(zip(IMAGE_INPUTS, patches, strict=True))

    def settings(self) -> dict[str, Any]:
        images = self.processor.image_processor
        budget = images.max_num_patches or "/".join(map(str, images.patch_budgets))
        return {
            "model": self.name,
            "architecture": "FG-CLIP 2",
            "resolution": self._resolution(f"up to {budget}"),
            "resize": "aspect ratio kept",
            "text_length_short": self.processor.short_text_length,
            "text_length_long": self.processor.long_text_length,
        }

    def settings_for_classes(self) -> dict[str, Any]:
        return {"resolution": self._resolution(str(self._class_budget))}

    def _resolution(self, patches: str) -> str:
        side = self.processor.image_processor.patch_size
        return f"{patches} patches of {side}×{side}"
