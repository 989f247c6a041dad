"""Models of the open_clip library, among them EVA-CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from eval.adapters.base import Inputs, ModelAdapter, VisionLayers
from eval.adapters.dense import KIND, as_map, each_token_alone, input_of
from modeling_fgclip.extras import missing_extra


class OpenCLIPAdapter(ModelAdapter):
    """Any open_clip model; dense features for its own vision transformer and for timm trunks such as EVA's.

    Args:
        model: what `open_clip.create_model_from_pretrained` returns first.
        transform: what it returns second, for whole images.
        tokenizer: what `open_clip.get_tokenizer` returns.
        name: for reports.
    """

    def __init__(self, model: nn.Module, transform: Callable, tokenizer: Callable, name: str = "open_clip"):
        self.model, self.transform, self.tokenizer, self.name = model, transform, tokenizer, name
        visual = model.visual
        size = visual.image_size
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        # (3, 1, 1) each
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (visual.image_mean, visual.image_std))
        self.length = getattr(model, "context_length", 77)
        self.long_text = self.length > 77
        trunk = getattr(visual, "trunk", None)
        supported = hasattr(trunk, "blocks") if trunk is not None else getattr(visual, "attn_pool", 0) is None
        self.dense_kind = f"{KIND}, RoIAlign 1×1" if supported else None

    @classmethod
    def from_pretrained(cls, name: str, pretrained: str | None = None) -> OpenCLIPAdapter:
        """Load by open_clip's names: an architecture and a tag or file, or `hf-hub:org/repo`.

        Raises:
            ValueError: open_clip is not installed.
        """
        try:
            import open_clip
        except ImportError:
            raise ValueError(missing_extra("open_clip models need the open_clip library", "open-clip")) from None
        model, transform = open_clip.create_model_from_pretrained(name, pretrained)
        return cls(model, transform, open_clip.get_tokenizer(name), f"{name} {pretrained or ''}".strip())

    def preprocess(self, images: Sequence[Image.Image], squash: bool) -> Inputs:
        return {
            "pixel_values": torch.stack([self._squash(image) if squash else self.transform(image) for image in images])
        }

    def _squash(self, image: Image.Image) -> Tensor:
        height, width = self.size
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        pixels = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8).view(height, width, 3)
        return (pixels.permute(2, 0, 1) / 255 - self.mean) / self.std

    def encode_images(self, inputs: Inputs) -> Tensor:
        return self.model.encode_image(inputs["pixel_values"])

    def tokenize(self, texts: Sequence[str], kind: str) -> Inputs:
        return {"text": self.tokenizer(list(texts))}

    def encode_texts(self, inputs: Inputs, kind: str) -> Tensor:
        return self.model.encode_text(inputs["text"])

    def encode_dense(self, inputs: Inputs) -> Tensor:
        if self.dense_kind is None:
            return super().encode_dense(inputs)
        tokens = self._timm_tokens(inputs) if hasattr(self.model.visual, "trunk") else self._own_tokens(inputs)
        height, width = self._grid(inputs)
        return as_map(tokens, height, width)

    def vision_layers(self) -> VisionLayers:
        visual = self.model.visual
        if self.dense_kind is None:
            return super().vision_layers()
        mean, std = self.mean.flatten().tolist(), self.std.flatten().tolist()
        if hasattr(visual, "trunk"):
            trunk = visual.trunk
            return VisionLayers(trunk.blocks, trunk.norm, trunk.patch_embed.patch_size[0], trunk.embed_dim, mean, std)
        if not visual.transformer.batch_first:
            return super().vision_layers()
        width = visual.conv1.out_channels
        return VisionLayers(visual.transformer.resblocks, visual.ln_post, visual.patch_size[0], width, mean, std)

    def _own_tokens(self, inputs: Inputs) -> Tensor:
        visual = self.model.visual
        block = visual.transformer.resblocks[-1]
        hidden = input_of(block, lambda: self.model.encode_image(inputs["pixel_values"]))
        tokens = (hidden if visual.transformer.batch_first else hidden.transpose(0, 1))[:, 1:]  # without CLS
        if visual.transformer.batch_first:
            tokens = each_token_alone(block, tokens)
        else:  # (1, B, D): one token, B sequences
            tokens = each_token_alone(lambda token: block(token.transpose(0, 1)).transpose(0, 1), tokens)
        tokens = visual.ln_post(tokens)
        return tokens if visual.proj is None else tokens @ visual.proj

    def _timm_tokens(self, inputs: Inputs) -> Tensor:
        visual, trunk = self.model.visual, self.model.visual.trunk
        block = trunk.blocks[-1]
        hidden = input_of(block, lambda: self.model.encode_image(inputs["pixel_values"]))
        tokens = trunk.norm(each_token_alone(block, hidden[:, trunk.num_prefix_tokens :]))
        if getattr(trunk, "attn_pool", None) is not None:
            tokens = each_token_alone(trunk.attn_pool, tokens)
        return visual.head(trunk.head(trunk.fc_norm(tokens)))

    def _grid(self, inputs: Inputs) -> tuple[int, int]:
        visual = self.model.visual
        patch = visual.trunk.patch_embed.patch_size if hasattr(visual, "trunk") else visual.patch_size
        height, width = inputs["pixel_values"].shape[-2:]
        return height // patch[0], width // patch[1]

    def settings(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "architecture": f"open_clip {type(self.model.visual).__name__}",
            "resolution": f"{self.size[0]}×{self.size[1]}",
            "resize": "the checkpoint's own; squash for regions",
            "text_length_short": self.length,
            "text_length_long": self.length,
        }
