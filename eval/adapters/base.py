"""What every model must offer to the tasks: one small class."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from modeling_fgclip.region_pooling import pool_regions

# Captions, long captions, phrases of regions.
TEXT_KINDS = ("short", "long", "region")
# Tensors by name, and whatever else the model's own methods take beside them.
Inputs = Mapping[str, Any]


class VisionLayers(NamedTuple):
    """Inside of a vision transformer, for a detector that builds on it.

    Attributes:
        blocks: its transformer blocks in order. final_norm: the norm behind them.
        patch: side of a patch in pixels. width: of the hidden states.
        mean, std: of the pixels that it was trained with, for RGB in 0 to 1.
    """

    blocks: Sequence[nn.Module]
    final_norm: nn.Module
    patch: int
    width: int
    mean: Sequence[float]
    std: Sequence[float]


class ModelAdapter(ABC):
    """A vision-language model as the tasks see it. Write one subclass for a new model.

    The embedder moves `model` to its device, calls it under `torch.no_grad` (and autocast when asked), casts what comes
    back to float32 and normalizes it; an adapter returns features as the model gives them.

    Attributes:
        name: what a report calls the model.
        model: the module whose device and mode the embedder sets.
        long_text: whether `tokenize` reaches further for long texts than for short ones.
        region_text: whether phrases of regions are encoded otherwise than short texts; if not, they are asked for as short.
        dense_kind: how `encode_dense` makes patch features, in words; None when the model cannot.
        shares_prefixes: whether texts of a batch that begin alike cost less; they are then batched in alphabetical order
            instead of by length.
    """

    name: str
    model: nn.Module
    long_text: bool = False
    region_text: bool = False
    dense_kind: str | None = None
    shares_prefixes: bool = False

    @abstractmethod
    def preprocess(self, images: Sequence[Image.Image], squash: bool) -> Inputs:
        """Images → tensors with a leading batch dimension, called in loading workers.

        Args:
            images: RGB.
            squash: resize to the model's resolution ignoring the aspect ratio, so that no part of the image is lost and
                normalized boxes stay true (always for regions). Otherwise the checkpoint's own preprocessing.
        """

    def preprocess_for_classes(self, images: Sequence[Image.Image]) -> Inputs:
        """`preprocess` of whole images for class names (ImageNet), for models that are evaluated at another size there."""
        return self.preprocess(images, squash=False)

    @abstractmethod
    def encode_images(self, inputs: Inputs) -> Tensor:
        """`preprocess`'s tensors → (N, D)."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str], kind: str) -> Inputs:
        """Texts → tensors; cut at the model's length.

        Args:
            kind: of `TEXT_KINDS`: "long" asks for the longest text it has, "region" for phrases of regions.
        """

    def tokenize_as_written(self, texts: Sequence[str], kind: str) -> Inputs:
        """`tokenize` for protocols that leave upper-case letters; for models whose `tokenize` makes them lower-case."""
        return self.tokenize(texts, kind)

    @abstractmethod
    def encode_texts(self, inputs: Inputs, kind: str) -> Tensor:
        """`tokenize`'s tensors → (N, D)."""

    def encode_dense(self, inputs: Inputs) -> Tensor:
        """`preprocess`'s tensors → (N, h, w, D) patch features in the space of the texts.

        Raises:
            ValueError: the model has none.
        """
        raise ValueError(f"{self.name} has no dense features; use region_features=crop.")

    def encode_regions(self, inputs: Inputs, boxes: Tensor) -> Tensor:
        """Region features by RoIAlign over `encode_dense` (paper, section 4.2).

        Args:
            inputs: of N images.
            boxes: (N, K, 4) normalized xyxy, zeros where an image has fewer.
        Returns:
            (N, K, D).
        """
        dense = self.encode_dense(inputs).float()
        _, height, width, _ = dense.shape
        units = torch.tensor([width, height, width, height], dtype=torch.float32, device=boxes.device)
        return pool_regions(dense, boxes * units)

    def vision_layers(self) -> VisionLayers:
        """The inside of the vision encoder.

        Raises:
            ValueError: the adapter does not show it.
        """
        raise ValueError(f"{self.name} cannot carry a detector; its adapter has no vision_layers.")

    def inputs_of_pixels(self, pixel_values: Tensor) -> Inputs:
        """Normalized images (N, 3, height, width) of any size → what `encode_dense` takes."""
        return {"pixel_values": pixel_values}

    def distinguishes(self, kind: str) -> bool:
        """Whether texts of this kind are encoded otherwise than short ones."""
        return kind == "short" or (self.long_text if kind == "long" else self.region_text)

    def settings(self) -> dict[str, Any]:
        """What is printed and stored with a result: resolution, text lengths, preprocessing."""
        return {"model": self.name}

    def settings_for_classes(self) -> dict[str, Any]:
        """What `preprocess_for_classes` changes of `settings`."""
        return {}

    def fingerprint(self) -> str:
        """Identifies the model but not its name: weights, settings, the adapter's code, and what a fixed image and fixed
        texts become before they reach the model. Keys the feature cache.
        """
        settings = {name: value for name, value in self.settings().items() if name != "model"}
        digest = hashlib.sha256(repr(sorted(settings.items())).encode())
        digest.update(_source(type(self)))
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(_bytes(value))
        for squash in (False, True):
            digest.update(_bytes(self.preprocess([_probe_image()], squash)))
        for kind in TEXT_KINDS:
            if self.distinguishes(kind):
                digest.update(_bytes(self.tokenize(PROBE_TEXTS, kind)))
        return digest.hexdigest()


def one_grid(name: str, spatial_shapes: Tensor) -> tuple[int, int]:
    """Rows and columns of patches of images that share them; (N, 2).

    Raises:
        ValueError: for images of different grids, which no map of shape (N, h, w, D) holds.
    """
    if (spatial_shapes != spatial_shapes[0]).any():
        raise ValueError(
            f"{name} keeps the aspect of images; a dense map is of images of one grid. Give them one by one."
        )
    rows, columns = spatial_shapes[0].tolist()
    return rows, columns


# Cut, padded, accented, of several cases: another tokenizer or length shows.
PROBE_TEXTS = ("A photo of 12 light-red stars, çirca naïve.", "zebra", "one more word and " * 40)


def _probe_image() -> Image.Image:
    pixels = np.arange(61 * 97 * 3) * 37 % 256
    return Image.fromarray(pixels.astype(np.uint8).reshape(61, 97, 3))


def _source(adapter: type) -> bytes:
    try:
        return inspect.getsource(adapter).encode()
    except (OSError, TypeError):  # written in an interactive session: there is no file
        return adapter.__qualname__.encode()


def _bytes(value: Any) -> bytes:
    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return f"{value.dtype}{tuple(value.shape)}".encode() + raw
    if isinstance(value, Mapping):
        return b"".join(name.encode() + _bytes(item) for name, item in sorted(value.items()))
    return repr(value).encode()
