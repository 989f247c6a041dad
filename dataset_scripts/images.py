"""Image bytes from anywhere, checked and brought into one form: RGB or grey, upright, decodable."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from modeling_fgclip.pixels import MAX_PIXELS, BadImage, Header, open_image, read_header, to_rgb

MIN_SIDE = 8  # pixels; tracking pixels and cut-off downloads are smaller
_KEPT_FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class CheckedImage:
    """Bytes that decode to an upright 8-bit image, and what the header of the original said."""

    data: bytes
    header: Header

    @property
    def width(self) -> int:
        return self.header.width

    @property
    def height(self) -> int:
        return self.header.height

    def as_column(self) -> dict[str, bytes | None]:
        """As a column of images holds it."""
        return {"path": None, "bytes": self.data}


def as_jpeg(image: Image.Image) -> bytes:
    """An RGB image as a JPEG in which no loss is seen."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _keeps_its_bytes(image: Image.Image, header: Header) -> bool:
    is_plain = image.mode in ("RGB", "L") and "transparency" not in image.info
    return image.format in _KEPT_FORMATS and is_plain and header.orientation == 1


def check_image(
    data: bytes, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE, decode: bool = True
) -> CheckedImage:
    """Decodes the image in full and returns bytes that every later reader decodes alike.

    An RGB or grey JPEG, PNG or WebP that needs no turning keeps its bytes. CMYK, palette, 16-bit, transparent,
    EXIF-rotated and other images are converted (:func:`~modeling_fgclip.pixels.to_rgb`): JPEG sources to JPEG (quality
    95), all others to PNG.

    Args:
        data: of a file.
        max_pixels, min_side: what it may have at most, and must have at least.
        decode: False leaves it to the next reader to find that an image which keeps its bytes is truncated or damaged.

    Raises:
        BadImage: empty, markup, not an image, truncated, a decompression bomb, or smaller than ``min_side``.
    """
    image = open_image(data, max_pixels)
    header = read_header(image)
    if min(header.size) < min_side:
        raise BadImage(
            "image is too small", f"{header.width}×{header.height} pixels, at least {min_side} a side needed"
        )
    if not decode and _keeps_its_bytes(image, header):
        return CheckedImage(data, header)
    pixels = to_rgb(image)
    if _keeps_its_bytes(image, header):
        return CheckedImage(data, header)
    if image.format in ("JPEG", "MPO"):
        return CheckedImage(as_jpeg(pixels), header)
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    return CheckedImage(buffer.getvalue(), header)
