"""Model FLOPs of a training step of FG-CLIP 2, counted as in `flops.py`: of real patches, and of texts at full length."""

from typing import Any

from modeling_fgclip import FGCLIP2Config
from modeling_fgclip.full_texts import TEXT_KINDS

from .flops import FORWARD_AND_BACKWARD, LengthGroups, last_block_flops, token_flops


def batch_flops(config: FGCLIP2Config, batch: dict[str, Any]) -> int:
    """Model FLOPs, forward and backward, of a batch of [`~training.data.collator.FGCLIPCollator`]."""
    texts = batch.get("packed_texts")
    places = batch["boxes"].shape[1] if "boxes" in batch else None
    groups, count = (texts["length_groups"], len(texts["kinds"])) if texts else ((), 0)
    return step_flops(config, batch["patch_counts"], groups, count, places)


def step_flops(
    config: FGCLIP2Config,
    patch_counts: list[int],
    length_groups: LengthGroups,
    texts: int,
    regions_an_image: int | None = None,
) -> int:
    """Model FLOPs of one forward and backward.

    Args:
        patch_counts: patches of each image, padding left out.
        length_groups: (rows, tokens of each) pairs, as in `FullTexts`.
        texts: which read these rows, each by the three heads, of which one is taken.
        regions_an_image: places for boxes; None where dense features are not formed (stage 1).
    """
    width = config.vision_config.hidden_size
    vision = 0
    for patches in patch_counts:
        vision += image_flops(config, patches)
        if regions_an_image is not None:
            vision += dense_flops(config, patches) + regions_an_image * 2 * patches * width
    heads = texts * len(TEXT_KINDS) * 2 * config.text_config.hidden_size**2
    return FORWARD_AND_BACKWARD * (
        vision + heads + sum(rows * text_flops(config, length) for rows, length in length_groups)
    )


def image_flops(config: FGCLIP2Config, patches: int) -> int:
    """Forward FLOPs of an image's global feature: positions resampled, all blocks whole, pooled by attention."""
    vision = config.vision_config
    width = vision.hidden_size
    embedding = patches * 2 * width * (vision.num_channels * vision.patch_size**2 + vision.num_patches)
    blocks = vision.num_hidden_layers * (patches * token_flops(vision) + 4 * patches**2 * width)
    return embedding + blocks + last_block_flops(vision, patches)


def dense_flops(config: FGCLIP2Config, patches: int) -> int:
    """Forward FLOPs of an image's dense features, over those of its global one: attention pooling of every patch."""
    vision = config.vision_config
    return patches * token_flops(vision) + 4 * patches**2 * vision.hidden_size


def text_flops(config: FGCLIP2Config, length: int) -> int:
    """Forward FLOPs of a row, without the heads."""
    text = config.text_config
    trunk = (text.num_hidden_layers - 1) * (length * token_flops(text) + 4 * length**2 * text.hidden_size)
    return trunk + last_block_flops(text, length)
