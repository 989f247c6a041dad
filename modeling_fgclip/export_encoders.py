"""The three encoders as exportable modules: tensors in, normalized embeddings out, no Python decisions in between.

Stays here: it does not travel with checkpoints.
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F

from .modeling_fgclip import FGCLIPModel


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


class TextEncoder(nn.Module):
    """input_ids (M, L) padded with the end token, long_text (M,) bool → text_embeds (M, D)."""

    def __init__(self, model: FGCLIPModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, long_text: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.model.get_text_features(input_ids, walk_short_pos=~long_text), dim=-1)


class RegionEncoder(nn.Module):
    """pixel_values (N, 3, height, width), boxes (N, K, 4) normalized xyxy → region_embeds (N, K, D); zeros for padding."""

    def __init__(self, model: FGCLIPModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        # `get_region_features` and `forward` count images and boxes in Python, which would fix their numbers.
        trunk = self.model.vision_model.trunk(pixel_values)
        return F.normalize(self.model._pool_regions(pixel_values, trunk, boxes), dim=-1)


@dataclass
class Encoder:
    """An encoder with what its export needs.

    Attributes:
        inputs: name → example; its dynamic sides are larger than 1, or export would fix them.
        dynamic_shapes: a dictionary of dynamic sides for each input.
        output: name of the result.
    """

    name: str
    module: nn.Module
    inputs: dict[str, torch.Tensor]
    dynamic_shapes: dict[str, dict[int, Dim]]
    output: str


def encoders(model: FGCLIPModel) -> list[Encoder]:
    """The image, text and region encoder of a copy of the model in float32 on the CPU, ready to export."""
    model = copy.deepcopy(model).float().cpu().eval()
    model.vision_model.embeddings = AnySizeEmbeddings(model.vision_model.embeddings)
    model.requires_grad_(False)
    patch = model.config.vision_config.patch_size
    images, texts, boxes = Dim("images"), Dim("texts"), Dim("boxes")
    size = {2: patch * Dim("rows", min=2, max=256), 3: patch * Dim("columns", min=2, max=256)}
    pixel_values = torch.rand(2, 3, 5 * patch, 4 * patch)
    longest = model.config.text_config.max_position_embeddings
    tokens = Dim("tokens", min=3, max=model.config.text_config.max_long_position_embeddings)
    input_ids = torch.full((2, min(9, longest)), model.config.text_config.eos_token_id)
    input_ids[:, :-1] = torch.arange(input_ids.shape[1] - 1)
    some_boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.0, 0.2, 1.0, 1.0], [0.5, 0.5, 0.9, 0.8]])
    return [
        Encoder(
            "image",
            ImageEncoder(model),
            {"pixel_values": pixel_values},
            {"pixel_values": {0: images, **size}},
            "image_embeds",
        ),
        Encoder(
            "text",
            TextEncoder(model),
            {"input_ids": input_ids, "long_text": torch.tensor([False, True])},
            {"input_ids": {0: texts, 1: tokens}, "long_text": {0: texts}},
            "text_embeds",
        ),
        Encoder(
            "region",
            RegionEncoder(model),
            {"pixel_values": pixel_values, "boxes": some_boxes.expand(2, 3, 4).contiguous()},
            {"pixel_values": {0: images, **size}, "boxes": {0: images, 1: boxes}},
            "region_embeds",
        ),
    ]


def check_inputs(encoder: Encoder, model: FGCLIPModel, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Inputs of other sizes than the example's: one and several items, short and long, the trained and other resolutions."""
    generator = torch.Generator().manual_seed(seed)
    vision, text = model.config.vision_config, model.config.text_config
    patch, side = vision.patch_size, vision.image_size
    if encoder.name == "text":
        cases = []
        for count, length, is_long in ((1, 4, False), (3, text.max_position_embeddings, False), (2, 100, True)):
            ids = torch.randint(0, text.eos_token_id - 1, (count, length), generator=generator)
            ids[:, -1] = text.eos_token_id
            ids[0, length // 2 :] = text.eos_token_id  # a shorter text, padded
            cases.append({"input_ids": ids, "long_text": torch.full((count,), is_long)})
        return cases
    cases = []
    for count, height, width, boxes in ((1, side, side, 1), (3, side + 2 * patch, side - patch, 4)):
        case = {"pixel_values": torch.rand(count, 3, height, width, generator=generator)}
        if encoder.name == "region":
            low, high = torch.rand(2, count, boxes, 2, generator=generator).mul(0.4)
            case["boxes"] = torch.cat([low, 1 - high], dim=-1)
        cases.append(case)
    return cases
