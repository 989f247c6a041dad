"""Model FLOPs of a training step, from the tokens and patches that are really there.

Counted are matrix products, two FLOPs a multiply-add, as the model forms them: texts by their own lengths without
padding, what they begin with alike once where that is shared, and of the last blocks only what is read (the class token's query, the texts' ends, the dense features of
images with boxes). Attention within a text or an image counts as its full square, as is usual (Chowdhery et al., 2022,
appendix B). The backward pass counts as twice the forward. Left out are elementwise work, the losses (below 1 %) and
whatever gradient checkpointing computes again: what a faster implementation need not do is not credited to this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPVisionConfig

    from modeling_fgclip import FGCLIPConfig

# Forward and backward: each product gives two gradients, one for either factor.
FORWARD_AND_BACKWARD = 3

LengthGroups = Iterable[tuple[int, int]]


def batch_flops(config: FGCLIPConfig, batch: dict[str, Any]) -> int:
    """Model FLOPs, forward and backward, of a batch of [`~training.data.collator.FGCLIPCollator`].

    Reads shapes and host numbers alone, so that nothing waits for the device. Padding among the boxes is counted with
    the regions: pooling one costs a millionth of its image.
    """
    images, _, height, width = batch["pixel_values"].shape
    patch = config.vision_config.patch_size
    regions = batch["boxes"].shape[0] * batch["boxes"].shape[1] if "boxes" in batch else None
    patches = (height // patch) * (width // patch)
    texts, crops = batch.get("packed_texts"), len(batch.get("crops", ()))
    groups, nodes = (texts["length_groups"], len(texts["input_ids"])) if texts else ((), None)
    teacher = len(batch.get("teacher_crops", ())) * image_flops(config, patches)
    return step_flops(config, images, patches, groups, regions, nodes, crops) + teacher


def step_flops(
    config: FGCLIPConfig,
    images: int,
    image_patches: int,
    length_groups: LengthGroups,
    regions: int | None = None,
    text_nodes: int | None = None,
    crops: int = 0,
) -> int:
    """Model FLOPs of one forward and backward.

    Args:
        images: of the batch.
        image_patches: patches of each image, without the class token.
        length_groups: (texts, tokens of each) pairs, as in `PackedTexts`; start and end tokens count.
        text_nodes: distinct tokens where texts share prefixes; by default all tokens of `length_groups`.
        regions: boxes pooled in all images; None where none are asked for and dense features are not formed (stage 1).
        crops: regions that are embedded as images of their own.
    """
    vision = (images + crops) * image_flops(config, image_patches)
    if regions is not None:
        vision += images * dense_flops(config, image_patches)
        vision += regions * 2 * image_patches * config.projection_dim
    return FORWARD_AND_BACKWARD * (vision + text_flops(config, length_groups, text_nodes))


def image_flops(config: FGCLIPConfig, patches: int) -> int:
    """Forward FLOPs of an image's global feature."""
    vision: CLIPVisionConfig = config.vision_config
    tokens, width = patches + 1, vision.hidden_size
    embedding = patches * 2 * vision.num_channels * vision.patch_size**2 * width
    trunk = (vision.num_hidden_layers - 1) * (tokens * token_flops(vision) + 4 * tokens**2 * width)
    return embedding + trunk + last_block_flops(vision, tokens) + 2 * width * config.projection_dim


def dense_flops(config: FGCLIPConfig, patches: int) -> int:
    """Forward FLOPs of an image's dense features, over those of its global one: the last block without attention."""
    vision: CLIPVisionConfig = config.vision_config
    width = vision.hidden_size
    value_and_output = 2 * 2 * width**2
    return patches * (value_and_output + mlp_flops(vision) + 2 * width * config.projection_dim)


def text_flops(config: FGCLIPConfig, length_groups: LengthGroups, nodes: int | None = None) -> int:
    """Forward FLOPs of packed texts; each goes through the short and the long projection, of which one is taken.

    Where texts share prefixes, everything but attention works on `nodes` tokens instead of on all.
    """
    text: CLIPTextConfig = config.text_config
    shared = 0 if nodes is None else sum(texts * length for texts, length in length_groups) - nodes
    keys_and_values = 4 * text.hidden_size**2
    total = -shared * ((text.num_hidden_layers - 1) * token_flops(text) + keys_and_values)
    for texts, length in length_groups:
        trunk = (text.num_hidden_layers - 1) * (length * token_flops(text) + 4 * length**2 * text.hidden_size)
        projections = 2 * 2 * text.hidden_size * config.projection_dim
        total += texts * (trunk + last_block_flops(text, length) + projections)
    return total


def token_flops(encoder: CLIPTextConfig | CLIPVisionConfig) -> int:
    """Forward FLOPs of a token in a block, but for its attention: two a weight."""
    return 8 * encoder.hidden_size**2 + mlp_flops(encoder)


def mlp_flops(encoder: CLIPTextConfig | CLIPVisionConfig) -> int:
    return 4 * encoder.hidden_size * encoder.intermediate_size


def last_block_flops(encoder: CLIPTextConfig | CLIPVisionConfig, tokens: int) -> int:
    """A block that is read at one token, and needs keys and values of all."""
    width = encoder.hidden_size
    keys_and_values = tokens * 4 * width**2
    query_and_output = 4 * width**2
    return keys_and_values + query_and_output + 4 * tokens * width + mlp_flops(encoder)
