"""Images as 8-bit pixels up to the device; there they become what the processor would have made of them, bit for bit.

A pixel of 8 bits has 256 levels, so that all a processor does after resizing is a table of 256 numbers a channel. A quarter
of the bytes is collated, sent between processes, pinned and copied, and nothing is computed in floats on the CPU.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from modeling_fgclip import FGCLIP2Processor, FGCLIPProcessor
from modeling_fgclip.pixels import to_rgb


def eight_bit_images(processor: FGCLIPProcessor, images: Sequence[Image.Image]) -> dict[str, Any]:
    """For a batch of FG-CLIP's: `pixel_values` (N, 3, S, S) uint8 and `pixel_levels`, which [`normalized`] makes floats of."""
    side, settings = processor.image_size, processor.image_processor
    pixels = torch.empty(len(images), 3, side, side, dtype=torch.uint8)
    for place, image in zip(pixels.numpy(), images, strict=True):
        rgb = to_rgb(image)
        resized = rgb.resize((side, side), settings.resample) if settings.do_resize else rgb
        place[...] = np.asarray(resized).transpose(2, 0, 1)
    return {"pixel_values": pixels, "pixel_levels": pixel_levels(processor)}


def pixel_levels(processor: FGCLIPProcessor) -> torch.Tensor:
    """(3, 256) float32: what the processor makes of each level of each channel."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
    settings = {"do_resize": False, "input_data_format": "channels_first", "return_tensors": "pt"}
    return processor.image_processor([ramp], **settings)["pixel_values"].float().view(3, 256)


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
    if pixels.is_floating_point():
        return pixels
    levels = batch["pixel_levels"]
    channels = 256 * torch.arange(len(levels), dtype=torch.int32, device=pixels.device)
    return levels.flatten().index_select(0, (pixels + channels[:, None, None]).flatten()).view(pixels.shape)
