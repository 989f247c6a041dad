"""FG-CLIP 2's encoders as exportable modules; see `export_encoders.py`. Batch, patches, grid and boxes are free.

Stays here: it does not travel with checkpoints.
"""

import copy

import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F

from .export_encoders import Encoder
from .full_texts import TEXT_KINDS
from .modeling_fgclip2 import FGCLIP2Model
from .naflex_vision import cut_into_patches
from .region_pooling import pool_ragged_regions

IMAGES = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
FILES = {"short": "text_model", "box": "box_text_model", "long": "long_text_model"}


class DenseEncoder(nn.Module):
    """Images → dense_map (N, P, D), not normalized, zeros at padding, and image_embeds (N, D)."""

    def __init__(self, model: FGCLIP2Model):
        super().__init__()
        self.model = model

    def forward(
        self, pixel_values: torch.Tensor, pixel_attention_mask: torch.Tensor, spatial_shapes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        vision = self.model.vision_model
        states = vision.encode(pixel_values, pixel_attention_mask, spatial_shapes)
        image_embeds = F.normalize(vision.head(states, pixel_attention_mask), dim=-1)
        return self.model._dense(states, pixel_attention_mask), image_embeds


class ImageEncoder(nn.Module):
    """pixel_values (N, P, 3 * patch²), pixel_attention_mask (N, P), spatial_shapes (N, 2) → image_embeds (N, D)."""

    def __init__(self, model: FGCLIP2Model):
        super().__init__()
        self.vision = model.vision_model

    def forward(
        self, pixel_values: torch.Tensor, pixel_attention_mask: torch.Tensor, spatial_shapes: torch.Tensor
    ) -> torch.Tensor:
        states = self.vision.encode(pixel_values, pixel_attention_mask, spatial_shapes)
        return F.normalize(self.vision.head(states, pixel_attention_mask), dim=-1)


class SquareImageEncoder(nn.Module):
    """pixel_values (N, 3, S, S) of one size, for runtimes with fixed shapes → image_embeds (N, D)."""

    def __init__(self, model: FGCLIP2Model):
        super().__init__()
        self.vision = model.vision_model
        self.patch = model.config.vision_config.patch_size

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        patches, mask, shapes = cut_into_patches(pixel_values, self.patch)
        return F.normalize(self.vision.head(self.vision.encode(patches, mask, shapes), mask), dim=-1)


class RegionEncoder(nn.Module):
    """dense_map, boxes (N, K, 4) normalized xyxy → region_embeds (N, K, D); zeros for padding. It has no weights."""

    def forward(
        self,
        dense_map: torch.Tensor,
        pixel_attention_mask: torch.Tensor,
        spatial_shapes: torch.Tensor,
        boxes: torch.Tensor,
    ) -> torch.Tensor:
        return F.normalize(pool_ragged_regions(dense_map, boxes, spatial_shapes, pixel_attention_mask), dim=-1)


class TextEncoder(nn.Module):
    """input_ids (M, 64), or (M, 196) of long text, padded to the full → text_embeds (M, D)."""

    def __init__(self, model: FGCLIP2Model, kind: str):
        super().__init__()
        self.text, self.is_long = model.text_model, kind == "long"
        self.head = model._text_heads()[TEXT_KINDS.index(kind)]

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.head(self.text.pool(input_ids, self.is_long)), dim=-1)


def encoders(model: FGCLIP2Model) -> list[Encoder]:
    """The encoders of a copy of the model in float32 on the CPU, ready to export."""
    model = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    vision, config = model.config.vision_config, model.config.text_config
    images, patches, boxes, texts = Dim("images"), Dim("patches", min=2), Dim("boxes"), Dim("texts")
    width, side = vision.hidden_size, int(vision.num_patches**0.5)
    inputs = _images(model, [(3, 4), (5, 2)], torch.Generator().manual_seed(1))
    free = {
        "pixel_values": {0: images, 1: patches},
        "pixel_attention_mask": {0: images, 1: patches},
        "spatial_shapes": {0: images},
    }
    some_boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.0, 0.2, 1.0, 1.0], [0.5, 0.5, 0.9, 0.8]])
    of_map = {name: free[name] for name in IMAGES[1:]}
    square = torch.rand(2, vision.num_channels, side * vision.patch_size, side * vision.patch_size)

    def image_embeds(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.normalize(model.get_image_features(**given), dim=-1)

    def square_embeds(given: dict[str, torch.Tensor]) -> torch.Tensor:
        patch = vision.patch_size
        cells = F.unfold(given["pixel_values"], patch, stride=patch).transpose(1, 2)  # channels first
        cells = cells.unflatten(2, (vision.num_channels, patch * patch)).transpose(2, 3).flatten(2)
        mask = torch.ones(cells.shape[:2], dtype=torch.long)
        shapes = torch.tensor([[side, side]] * len(cells))
        return image_embeds(dict(zip(IMAGES, (cells, mask, shapes), strict=True)))

    def region_embeds(given: dict[str, torch.Tensor]) -> torch.Tensor:
        names = ("dense_map", "boxes", "spatial_shapes", "pixel_attention_mask")
        return F.normalize(pool_ragged_regions(*(given[name] for name in names)), dim=-1)

    found = [
        Encoder(
            "image",
            "vision_model",
            ImageEncoder(model),
            inputs,
            free,
            ("image_embeds",),
            lambda given: (image_embeds(given),),
        ),
        Encoder(
            "square",
            "square_vision_model",
            SquareImageEncoder(model),
            {"pixel_values": square},
            {"pixel_values": {0: images}},
            ("image_embeds",),
            lambda given: (square_embeds(given),),
        ),
        Encoder(
            "dense",
            "dense_model",
            DenseEncoder(model),
            inputs,
            free,
            ("dense_map", "image_embeds"),
            lambda given: (model.get_image_dense_feature(**given), image_embeds(given)),
        ),
        Encoder(
            "region",
            "region_model",
            RegionEncoder(),
            {
                "dense_map": torch.rand(2, inputs["pixel_values"].shape[1], width),
                **{name: inputs[name] for name in IMAGES[1:]},
                "boxes": some_boxes.expand(2, 3, 4).contiguous(),
            },
            {"dense_map": {0: images, 1: patches}, **of_map, "boxes": {0: images, 1: boxes}},
            ("region_embeds",),
            lambda given: (region_embeds(given),),
        ),
    ]
    for kind, file in FILES.items():
        length = config.longtext_len if kind == "long" else config.max_position_embeddings
        ids = torch.full((2, length), config.pad_token_id)
        ids[:, :5] = torch.arange(5, 10)

        def text_embeds(given: dict[str, torch.Tensor], kind: str = kind) -> tuple[torch.Tensor]:
            return (F.normalize(model.get_text_features(given["input_ids"], walk_type=kind), dim=-1),)

        found.append(
            Encoder(
                file.removesuffix("_model"),
                file,
                TextEncoder(model, kind),
                {"input_ids": ids},
                {"input_ids": {0: texts}},
                ("text_embeds",),
                text_embeds,
            )
        )
    return found


def check_inputs(encoder: Encoder, model: FGCLIP2Model, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Inputs of other sizes than the example's: one and several, grids smaller and larger than the position grid."""
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for grids in ([(2, 2)], [(7, 9), (1, 3), (16, 4)]):
        case = _images(model, grids, generator)
        if encoder.name == "region":
            low, high = torch.rand(2, len(grids), 5, 2, generator=generator).mul(0.4)
            patches = case.pop("pixel_values").shape[1]
            case["dense_map"] = torch.randn(len(grids), patches, model.config.vision_config.hidden_size)
            case["boxes"] = torch.cat([low, 1 - high], dim=-1)
        elif "input_ids" in encoder.inputs:
            ids = encoder.inputs["input_ids"][:1].repeat(len(grids), 1)
            vocabulary = model.config.text_config.vocab_size
            ids[:, :7] = torch.randint(5, vocabulary, (len(grids), 7), generator=generator)
            case = {"input_ids": ids}
        elif encoder.name == "square":
            shape = encoder.inputs["pixel_values"].shape[1:]
            case = {"pixel_values": torch.rand(len(grids), *shape, generator=generator)}
        cases.append(case)
    return cases


def _images(model: FGCLIP2Model, grids: list[tuple[int, int]], generator: torch.Generator) -> dict[str, torch.Tensor]:
    vision = model.config.vision_config
    shapes = torch.tensor(grids)
    patches = int(shapes.prod(-1).max())
    mask = (torch.arange(patches) < shapes.prod(-1, keepdim=True)).long()
    pixels = torch.rand(len(grids), patches, vision.num_channels * vision.patch_size**2, generator=generator)
    return {"pixel_values": pixels, "pixel_attention_mask": mask, "spatial_shapes": shapes}
