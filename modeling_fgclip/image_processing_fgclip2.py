"""Image processor of FG-CLIP 2: SigLIP 2's patches, with a budget by image."""

from typing import Any

import torch
from torch.nn import functional as F
from transformers import BatchFeature
from transformers.image_utils import ImageInput

from .boxes import image_size
from .image_input import images_of

try:
    from transformers.models.siglip2.image_processing_pil_siglip2 import (
        Siglip2ImageProcessorKwargs,
        Siglip2ImageProcessorPil,
    )
except ImportError as error:
    raise ImportError("FG-CLIP 2 needs transformers 5.17 or newer: `pip install --upgrade transformers`.") from error

IMAGE_INPUTS = ("pixel_values", "pixel_attention_mask", "spatial_shapes")


class FGCLIP2ImageProcessorKwargs(Siglip2ImageProcessorKwargs, total=False):
    """
    patch_budgets (`list[int]`, *optional*):
        An image gets the smallest of these that holds the whole patches of its own size, or the last.
    """

    patch_budgets: list[int]


class FGCLIP2ImageProcessor(Siglip2ImageProcessorPil):
    """Resizes by PIL, which the published numbers were made with, at the image's own aspect; every mode becomes RGB.

    Args:
        patch_budgets: an image is scaled, up as well, until its grid fills the smallest of these that holds the whole
            patches of its own size, or the last.
        max_num_patches: one budget for all images instead.
    """

    valid_kwargs = FGCLIP2ImageProcessorKwargs
    patch_budgets = (128, 256, 576, 784, 1024)
    max_num_patches = None
    do_convert_rgb = True

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.patch_budgets = sorted(self.patch_budgets)
        if not self.patch_budgets or self.patch_budgets[0] < 1:
            raise ValueError(f"patch_budgets must be positive numbers of patches, got {self.patch_budgets}.")
        _check_budget(self.max_num_patches)

    def patch_budget(self, width: int, height: int) -> int:
        """Patches that an image of this size is given."""
        if self.max_num_patches:
            return self.max_num_patches
        own = (width // self.patch_size) * (height // self.patch_size)
        return next((budget for budget in self.patch_budgets if own <= budget), self.patch_budgets[-1])

    def preprocess(self, images: ImageInput, max_num_patches: int | None = None, **kwargs: Any) -> BatchFeature:
        """One image at a time, each with its own budget, then padded to the largest.

        Args:
            images: an image or a list of N.
            max_num_patches: one budget for all of them.

        Returns:
            `pixel_values` (N, P, 3 * patch size²), `pixel_attention_mask` (N, P), `spatial_shapes` (N, 2: rows, columns).
        """
        _check_budget(max_num_patches)
        tensor_type = kwargs.pop("return_tensors", None)
        prepared = []
        for image in images_of(images, scaled=kwargs.get("do_rescale") is False):
            budget = max_num_patches or self.patch_budget(*image_size(image))
            prepared.append(super().preprocess([image], max_num_patches=budget, return_tensors="pt", **kwargs))
        most = max(image["pixel_values"].shape[1] for image in prepared)
        batch = {
            "pixel_values": [
                F.pad(image["pixel_values"][0], (0, 0, 0, most - image["pixel_values"].shape[1])) for image in prepared
            ],
            "pixel_attention_mask": [
                F.pad(image["pixel_attention_mask"][0], (0, most - image["pixel_attention_mask"].shape[1]))
                for image in prepared
            ],
            "spatial_shapes": [image["spatial_shapes"][0] for image in prepared],
        }
        batch = {name: torch.stack(values) for name, values in batch.items()}
        if tensor_type == "np":
            batch = {name: values.numpy() for name, values in batch.items()}
        return BatchFeature(batch)


def as_fgclip2(image_processor: Any) -> FGCLIP2ImageProcessor:
    """The same image processor, choosing each image's budget.

    Raises:
        ValueError: for one that cuts no patches.
    """
    if isinstance(image_processor, FGCLIP2ImageProcessor):
        return image_processor
    if not hasattr(image_processor, "patch_size"):
        raise ValueError(
            f"Received a {type(image_processor).__name__}; FG-CLIP 2 cuts images into patches with SigLIP 2's NaFlex "
            "image processor (Siglip2ImageProcessor)."
        )
    settings = image_processor.to_dict()
    kept = (
        "do_resize",
        "resample",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
        "patch_size",
        "patch_budgets",
    )
    return FGCLIP2ImageProcessor(**{name: settings[name] for name in kept if settings.get(name) is not None})


def _check_budget(max_num_patches: int | None) -> None:
    if max_num_patches is not None and max_num_patches < 1:
        raise ValueError(f"max_num_patches must be at least 1, got {max_num_patches}.")


FGCLIP2ImageProcessor.register_for_auto_class()

__all__ = ["FGCLIP2ImageProcessor", "as_fgclip2"]
