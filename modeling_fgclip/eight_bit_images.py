"""Images as 8-bit pixels up to the device; there they become what the processor would have made of them, bit for bit.

A pixel of 8 bits has 256 levels, so that all a processor does after resizing is a table of 256 numbers a channel. A quarter
of the bytes is collated, sent between processes, pinned and copied, and nothing is computed in floats on the CPU.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from .pixels import to_rgb
from .processing_fgclip import FGCLIPProcessor
from .threads import in_threads


def eight_bit_images(processor: FGCLIPProcessor, images: Sequence[Image.Image]) -> torch.Tensor:
    """(N, 3, S, S) uint8, of which `normalized_images` makes floats."""
    side, settings = processor.image_size, processor.image_processor
    pixels = torch.empty(len(images), 3, side, side, dtype=torch.uint8)

    def fill(place: np.ndarray, image: Image.Image) -> None:
        rgb = to_rgb(image)
        resized = rgb.resize((side, side), settings.resample) if settings.do_resize else rgb
        place[...] = np.asarray(resized).transpose(2, 0, 1)

    in_threads(fill, pixels.numpy(), images)
    return pixels


def pixel_levels(processor: FGCLIPProcessor) -> torch.Tensor:
    """(3, 256) float32: what the processor makes of each level of each channel."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
    settings = {"do_resize": False, "input_data_format": "channels_first", "return_tensors": "pt"}
    return processor.image_processor([ramp], **settings)["pixel_values"].float().view(3, 256)


def normalized_images(pixels: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """(N, 3, S, S) images as the model takes them, made where they lie.

    Args:
        pixels: of `eight_bit_images`. levels: `pixel_levels`, on the same device.
    """
    channels = 256 * torch.arange(len(levels), dtype=torch.int32, device=pixels.device)
    return levels.flatten().index_select(0, (pixels + channels[:, None, None]).flatten()).view(pixels.shape)


__all__ = ["eight_bit_images", "normalized_images", "pixel_levels"]
