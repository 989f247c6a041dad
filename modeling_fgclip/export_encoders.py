"""The encoders as exportable modules: tensors in, normalized embeddings out, no Python decisions in between.

Stays here: it does not travel with checkpoints.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F

from .modeling_fgclip import FGCLIPModel
from .region_pooling import pool_regions


class AnySizeEmbeddings(nn.Module):
    """CLIP's patch embeddings with positions always resampled: one graph for every resolution.

    At the trained resolution bicubic resampling is the identity.
    """

    def __init__(self, embeddings: nn.Module):
        super().__init__()
        self.class_embedding = embeddings.class_embedding
        self.patch_embedding = embeddings.patch_embedding
        self.position_embedding = embeddings.position_embedding

    def forward(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool = True) -> torch.Tensor:
        patches = self.patch_embedding(pixel_values)  # (N, D, rows, columns)
        positions = self.position_embedding.weight  # (1 + side * side, D)
        side = round((positions.shape[0] - 1) ** 0.5)
        grid = positions[1:].unflatten(0, (side, side)).permute(2, 0, 1).unsqueeze(0)  # (1, D, side, side)
        grid = F.interpolate(grid, size=patches.shape[-2:], mode="bicubic", align_corners=False)
        class_tokens = (self.class_embedding + positions[0]).expand(patches.shape[0], 1, -1)
        return torch.cat([class_tokens, (patches + grid).flatten(2).transpose(1, 2)], dim=1)


class ImageEncoder(nn.Module):
    """pixel_values (N, 3, height, width) → image_embeds (N, D)."""

    def __init__(self, model: FGCLIPModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.model.get_image_features(pixel_values), dim=-1)


class DenseEncoder(nn.Module):
    """pixel_values (N, 3, height, width) → dense_map (N, rows, columns, D), not normalized, and image_embeds (N, D)."""

    def __init__(self, model: FGCLIPModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vision = self.model.vision_model
        trunk = vision.trunk(pixel_values)
        image_embeds = F.normalize(self.model.visual_projection(vision.pool(trunk)), dim=-1)
        return self.model._dense_map(pixel_values, trunk), image_embeds


class RegionEncoder(nn.Module):
    """dense_map, boxes (N, K, 4) normalized xyxy → region_embeds (N, K, D); zeros for padding. It has no weights."""

    def __init__(self, model: FGCLIPModel):
        super().__init__()
        self.pool = model._pool_map

    def forward(self, dense_map: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.pool(dense_map, boxes), dim=-1)


class TextEncoder(nn.Module):
    """input_ids (M, L) padded with the end token, long_text (M,) bool → text_embeds (M, D)."""

    def __init__(self, model: FGCLIPModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, long_text: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.model.get_text_features(input_ids, walk_short_pos=~long_text), dim=-1)


class FixedTextEncoder(nn.Module):
    """input_ids (M, L) → text_embeds (M, D), of long texts, or of texts that are long where they have over 77 tokens."""

    def __init__(self, model: FGCLIPModel, walk_short_pos: bool | None):
        super().__init__()
        self.model, self.walk_short_pos = model, walk_short_pos

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.model.get_text_features(input_ids, walk_short_pos=self.walk_short_pos), dim=-1)


@dataclass
class Encoder:
    """An encoder with what its export needs.

    Attributes:
        file: the name under which it is written.
        inputs: name → example; its dynamic sides are larger than 1, or export would fix them.
        dynamic_shapes: a dictionary of dynamic sides for each input.
        outputs: names of the results.
        expected: inputs → what the model's own methods give.
    """

    name: str
    file: str
    module: nn.Module
    inputs: dict[str, torch.Tensor]
    dynamic_shapes: dict[str, dict[int, Dim]]
    outputs: tuple[str, ...]
    expected: Callable[[dict[str, torch.Tensor]], tuple[torch.Tensor, ...]]


def encoders(model: FGCLIPModel) -> list[Encoder]:
    """The encoders of a copy of the model in float32 on the CPU, ready to export.

    `text` takes the choice of long text as an input; `text_by_length` and `long_text` take token ids alone, which is
    what other tools pass.
    """
    original = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    model = copy.deepcopy(original)
    model.vision_model.embeddings = AnySizeEmbeddings(model.vision_model.embeddings)
    model.requires_grad_(False)
    patch = model.config.vision_config.patch_size
    images, texts, boxes = Dim("images"), Dim("texts"), Dim("boxes")
    rows, columns = Dim("rows", min=2, max=256), Dim("columns", min=2, max=256)
    pixel_values = torch.rand(2, 3, 5 * patch, 4 * patch)
    pixel_sides = {0: images, 2: patch * rows, 3: patch * columns}
    longest = model.config.text_config.max_position_embeddings
    tokens = Dim("tokens", min=3, max=model.config.text_config.max_long_position_embeddings)
    input_ids = torch.full((2, min(9, longest)), model.config.text_config.eos_token_id)
    input_ids[:, :-1] = torch.arange(input_ids.shape[1] - 1)
    text_sides = {0: texts, 1: tokens}
    some_boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.0, 0.2, 1.0, 1.0], [0.5, 0.5, 0.9, 0.8]])

    def image_embeds(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.normalize(original.get_image_features(inputs["pixel_values"]), dim=-1)

    def text_embeds(inputs: dict[str, torch.Tensor], is_short: bool | torch.Tensor | None) -> torch.Tensor:
        return F.normalize(original.get_text_features(inputs["input_ids"], walk_short_pos=is_short), dim=-1)

    def dense_map(pixel_values: torch.Tensor) -> torch.Tensor:
        size = original.vision_model.feature_map_size(pixel_values)
        return original.get_image_dense_features(pixel_values).unflatten(1, size)

    def region_embeds(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        height, width = inputs["dense_map"].shape[1:3]
        units = torch.tensor([width, height, width, height])
        pooled = pool_regions(inputs["dense_map"], inputs["boxes"] * units, original.config.roi_pooling_size)
        return F.normalize(pooled, dim=-1)

    pixels, pixel_shapes = {"pixel_values": pixel_values}, {"pixel_values": pixel_sides}
    ids, id_shapes = {"input_ids": input_ids}, {"input_ids": text_sides}
    return [
        Encoder(
            "image",
            "vision_model",
            ImageEncoder(model),
            pixels,
            pixel_shapes,
            ("image_embeds",),
            lambda inputs: (image_embeds(inputs),),
        ),
        Encoder(
            "dense",
            "dense_model",
            DenseEncoder(model),
            pixels,
            pixel_shapes,
            ("dense_map", "image_embeds"),
            lambda inputs: (dense_map(inputs["pixel_values"]), image_embeds(inputs)),
        ),
        Encoder(
            "region",
            "region_model",
            RegionEncoder(model),
            {"dense_map": torch.rand(2, 5, 4, model.projection_dim), "boxes": some_boxes.expand(2, 3, 4).contiguous()},
            {"dense_map": {0: images, 1: rows, 2: columns}, "boxes": {0: images, 1: boxes}},
            ("region_embeds",),
            lambda inputs: (region_embeds(inputs),),
        ),
        Encoder(
            "text",
            "text_encoder",
            TextEncoder(model),
            {**ids, "long_text": torch.tensor([False, True])},
            {**id_shapes, "long_text": {0: texts}},
            ("text_embeds",),
            lambda inputs: (text_embeds(inputs, ~inputs["long_text"]),),
        ),
        Encoder(
            "text_by_length",
            "text_model",
            FixedTextEncoder(model, None),
            ids,
            id_shapes,
            ("text_embeds",),
            lambda inputs: (text_embeds(inputs, None),),
        ),
        Encoder(
            "long_text",
            "long_text_model",
            FixedTextEncoder(model, False),
            ids,
            id_shapes,
            ("text_embeds",),
            lambda inputs: (text_embeds(inputs, False),),
        ),
    ]


def check_inputs(encoder: Encoder, model: FGCLIPModel, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Inputs of other sizes than the example's: one and several items, short and long, the trained and other resolutions."""
    generator = torch.Generator().manual_seed(seed)
    vision, text = model.config.vision_config, model.config.text_config
    patch, side = vision.patch_size, vision.image_size
    cases = []
    if "input_ids" in encoder.inputs:
        for count, length, is_long in ((1, 4, False), (3, text.max_position_embeddings, False), (2, 100, True)):
            ids = torch.randint(0, text.eos_token_id - 1, (count, length), generator=generator)
            ids[:, -1] = text.eos_token_id
            ids[0, length // 2 :] = text.eos_token_id  # a shorter text, padded
            case = {"input_ids": ids, "long_text": torch.full((count,), is_long)}
            cases.append({name: case[name] for name in encoder.inputs})
        return cases
    for count, height, width, boxes in ((1, side, side, 1), (3, side + 2 * patch, side - patch, 4)):
        if encoder.name == "region":
            low, high = torch.rand(2, count, boxes, 2, generator=generator).mul(0.4)
            shape = (count, height // patch, width // patch, model.projection_dim)
            case = {"dense_map": torch.randn(shape, generator=generator), "boxes": torch.cat([low, 1 - high], dim=-1)}
        else:
            case = {"pixel_values": torch.rand(count, 3, height, width, generator=generator)}
        cases.append(case)
    return cases
