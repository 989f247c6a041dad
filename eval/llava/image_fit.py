"""How a processor makes pictures square, read from its settings: that decides where a box lies."""

from __future__ import annotations

from typing import Any

from dataset_scripts.formats.llava import ImageFit


def image_fit_of(image_processor: Any) -> ImageFit:
    """ "pad" (LLaVA's), "squash" (FG-CLIP's) or "crop" (CLIP's, and what transformers' LLaVA does by default).

    Raises:
        ValueError: the settings are of none of them.
    """
    size = dict(getattr(image_processor, "size", None) or {})
    if getattr(image_processor, "do_pad", False):
        return "pad"
    if "shortest_edge" in size and getattr(image_processor, "do_center_crop", False):
        return "crop"
    if "height" in size and size["height"] == size.get("width"):
        return "squash"
    raise ValueError(
        f"the image processor {type(image_processor).__name__} resizes to {size} and neither pads nor crops to a square; "
        "LLaVA's towers see squares. Build the model with `fgclip llava build`, or correct its preprocessor_config.json."
    )
