"""What of a batch's images is collated, by family, and what the model gets of it."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from modeling_fgclip import FGCLIP2Processor, FGCLIPProcessor
from modeling_fgclip.eight_bit_images import eight_bit_images, normalized_images, pixel_levels


def squares(processor: FGCLIPProcessor, images: Sequence[Image.Image]) -> dict[str, Any]:
    """For a batch of FG-CLIP's: `pixel_values` (N, 3, S, S) uint8 and `pixel_levels`, which [`normalized`] makes floats of."""
    return {"pixel_values": eight_bit_images(processor, images), "pixel_levels": pixel_levels(processor)}


def patches(processor: FGCLIP2Processor, images: Sequence[Image.Image]) -> dict[str, Any]:
    """For a batch of FG-CLIP 2's: patches with their mask and shapes, and `patch_counts`, a list."""
    prepared = dict(processor(images=list(images)))
    # On the host, for the log.
    return prepared | {"patch_counts": prepared["spatial_shapes"].prod(-1).tolist()}


def normalized(batch: dict[str, Any], name: str = "pixel_values") -> torch.Tensor:
    """The images of a batch as the model takes them, made where they lie.

    Args:
        batch: of the collator; images that are floats come back as they are.
        name: "pixel_values", "crops" or "teacher_crops", (N, 3, S, S).
    """
    pixels = batch[name]
    return pixels if pixels.is_floating_point() else normalized_images(pixels, batch["pixel_levels"])
