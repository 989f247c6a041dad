"""Image bytes from anywhere, checked and brought into one form: RGB or grey, upright, decodable."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000  # a picture of 10,000 × 10,000; more is taken for a decompression bomb
MIN_SIDE = 8  # pixels; tracking pixels and cut-off downloads are smaller
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "PPM")
_KEPT_FORMATS = ("JPEG", "PNG", "WEBP")
_ORIENTATION = 0x0112  # EXIF tag
_MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg", b"<!--")


class BadImage(ValueError):
    """Bytes that cannot serve as an image; ``reason`` is short and the same for all of a kind, for counting."""

    def __init__(self, reason: str, received: str = "") -> None:
        super().__init__(f"{reason}: {received}" if received else reason)
        self.reason = reason


@dataclass(frozen=True)
class CheckedImage:
    """Bytes that decode to an upright 8-bit image, and its size in pixels."""

    data: bytes
    width: int
    height: int


def _open(data: bytes) -> Image.Image:
    if not data:
        raise BadImage("image file is empty")
    if data[:256].lstrip().lower().startswith(_MARKUP):
        raise BadImage("HTML or XML instead of an image", data[:60].decode("latin-1"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # judged below, by our own limit
            return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage("image is a decompression bomb", str(error)) from error
    except Exception as error:  # PIL's parsers raise nearly anything on damaged headers
        raise BadImage("not an image", f"{len(data)} bytes beginning {data[:12]!r}") from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """RGB or grey (L), 8 bits a channel; transparency is laid on white."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        # 16-bit values keep their upper byte. PIL gives some 8-bit and 16-bit files alike as 32-bit integers.
        return Image.fromarray((values >> 8 if values.max() > 255 else values).clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        raise BadImage("image of floating-point pixels", f"mode {image.mode}")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def check_image(data: bytes, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE) -> CheckedImage:
    """Decodes the image in full and returns bytes that every later reader decodes alike.

    An RGB or grey JPEG, PNG or WebP that needs no turning keeps its bytes. CMYK, palette, 16-bit, transparent,
    EXIF-rotated and other images are converted: JPEG sources to JPEG (quality 95), all others to PNG.

    Raises:
        BadImage: empty, markup, not an image, truncated, a decompression bomb, or smaller than ``min_side``.
    """
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage("image is a decompression bomb", f"{width}×{height} pixels, at most {max_pixels} allowed")
    if min(width, height) < min_side:
        raise BadImage("image is too small", f"{width}×{height} pixels, at least {min_side} a side needed")
    source = image.format
    try:
        image.load()
        orientation = image.getexif().get(_ORIENTATION, 1)
        if (
            source in _KEPT_FORMATS
            and image.mode in ("RGB", "L")
            and orientation == 1
            and "transparency" not in image.info
        ):
            return CheckedImage(data, width, height)
        image = _to_eight_bits(ImageOps.exif_transpose(image))
    except BadImage:
        raise
    except Exception as error:  # as above
        raise BadImage("image is truncated or damaged", str(error)) from error
    buffer = io.BytesIO()
    if source in ("JPEG", "MPO"):
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        image.save(buffer, "PNG")
    return CheckedImage(buffer.getvalue(), *image.size)
