"""What people pass as images: PIL images, arrays, tensors, paths, URLs."""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import is_valid_image, make_flat_list_of_images

from .pixels import prepared_image, to_rgb

try:  # the client that huggingface_hub itself comes with; which one that is depends on its version
    from huggingface_hub.utils import httpx
except ImportError:
    import httpx

MAX_BYTES = 50_000_000
TIMEOUT = 20.0  # seconds, to connect and between two packets


def images_of(images: Any, scaled: bool = False) -> list[Any]:
    """A flat list of PIL images and arrays, of an image or a list of images.

    Args:
        scaled: whether float arrays run from 0 to 1 because the caller says so (`do_rescale=False`), and are to stay.

    Raises:
        ValueError: for no image, for what is none, and for floats in another range than 0 to 1 or 0 to 255.
    """
    entries = list(images) if isinstance(images, (list, tuple)) else [images]
    if not entries:
        raise ValueError("Received images=[], no image at all; leave `images` out, or pass at least one.")
    flat = []
    for index, entry in enumerate(entries):
        if isinstance(entry, (str, Path)):
            entry = load(entry)
        try:
            found = make_flat_list_of_images(entry)
        except (ValueError, TypeError):
            found = []
        if not found or not all(is_valid_image(image) for image in found):
            raise ValueError(
                f"Received {type(entry).__name__} as image {index} of {len(entries)}; pass PIL images, arrays or tensors "
                "(height and width with 1 or 3 channels), paths or URLs."
            )
        flat += [prepared_image(image) if scaled else _as_bytes(prepared_image(image)) for image in found]
    return flat


def load(source: str | Path) -> Image.Image:
    """The RGB image of a path, an http(s) URL or a data URL.

    Raises:
        ValueError: where there is none, or it is too large.
    """
    text = str(source)
    shown = repr(text if len(text) < 200 else f"{text[:80]}…")
    if text.startswith(("http://", "https://")):
        data = _download(text)
    elif text.startswith("data:"):
        data = _decode_data_url(text, shown)
    elif len(text) < 4096 and Path(text).is_file():
        data = Path(text)
    else:
        raise ValueError(f"{shown} is neither a file nor a URL of an image. A text goes into processor(text=…).")
    try:
        return to_rgb(data)
    except (OSError, ValueError) as error:
        raise ValueError(f"{shown} cannot be read as an image: {error}.") from None


def _download(url: str) -> bytes:
    data = bytearray()
    try:
        with httpx.stream("GET", url, timeout=TIMEOUT, follow_redirects=True) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_BYTES:
                    raise ValueError(f"{url} has more than {MAX_BYTES:,} bytes, the most that is downloaded.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"{url} cannot be downloaded: {' '.join(str(error).split())}.") from None
    return bytes(data)


def _decode_data_url(url: str, shown: str) -> bytes:
    header, _, content = url.partition(",")
    if not header.endswith(";base64") or len(content) > MAX_BYTES * 4 // 3 + 4:
        raise ValueError(f"{shown} is no base64 data URL of at most {MAX_BYTES:,} bytes.")
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{shown} is damaged: {error}.") from None


def _as_bytes(image: Any) -> Any:
    """A float image as the 8-bit image that it was; everything else as it is."""
    if not isinstance(image, (np.ndarray, torch.Tensor)):
        return image
    values = image.detach().cpu().float().numpy() if isinstance(image, torch.Tensor) else image
    if not np.issubdtype(values.dtype, np.floating):
        return image
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 255:  # false for NaN, too
        raise ValueError(
            f"Received a float image with values from {low:g} to {high:g}; floats are read from 0 to 1 or from 0 to 255. "
            "If it is normalized already, pass it to the model as pixel_values, without the processor."
        )
    return np.rint(values * 255).astype(np.uint8) if high <= 1 else image


__all__ = ["images_of", "load"]
