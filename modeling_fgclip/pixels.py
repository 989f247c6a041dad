"""From a picture as it comes (file, bytes, PIL image) to upright 8-bit RGB pixels: the one place where that is done."""

import io
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

MAX_PIXELS = 100_000_000  # a picture of 10,000 x 10,000; more is taken for a decompression bomb
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # PIL opens MPO, several JPEGs in one, by JPEG

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg", b"<!--")


class BadImage(ValueError):
    """What cannot serve as a picture; `reason` is short and the same for all of a kind, for counting."""

    def __init__(self, reason: str, received: str = "") -> None:
        super().__init__(f"{reason}: {received}" if received else reason)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What a picture's header says, before anything is decoded.

    Attributes:
        width, height: of the upright picture, in pixels.
        orientation: EXIF's, 1 to 8: how the stored pixels become the upright picture.
    """

    width: int
    height: int
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright picture."""
        return self.width, self.height

    @property
    def stored(self) -> tuple[int, int]:
        """(width, height) of the pixels as they are stored."""
        return self.size[::-1] if self.orientation >= 5 else self.size


def open_image(source: Any, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture whose header was read and judged; nothing is decoded yet.

    Args:
        source: bytes, a path, or a binary file.
        max_pixels: a picture that claims more is refused.

    Raises:
        BadImage: empty, markup, no picture of `FORMATS`, or a decompression bomb.
        OSError: the file cannot be opened.
    """
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("image is a decompression bomb", str(error)) from error
    except Exception as error:  # PIL's parsers raise nearly anything on damaged headers
        head = _head(source)
        if not head:
            raise BadImage("image file is empty") from None
        if head.lstrip().lower().startswith(_MARKUP):
            raise BadImage("HTML or XML instead of an image", head[:60].decode("latin-1")) from None
        raise BadImage("not an image", f"begins {head[:12]!r}") from error
    if image.width * image.height > max_pixels:
        raise BadImage(
            "image is a decompression bomb", f"{image.width}×{image.height} pixels, at most {max_pixels} allowed"
        )
    return image


def _head(source: Any) -> bytes:
    """The first bytes, to say what it is instead of a picture."""
    if isinstance(source, bytes):
        return source[:256]
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            return file.read(256)
    source.seek(0)
    return source.read(256)


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:  # as above
        raise BadImage("image is truncated or damaged", str(error)) from error


def _orientation(image: Image.Image) -> int:
    """EXIF's number, 1 to 8; 1 where there is none or the EXIF data are damaged, which is no fault of the pixels.

    Of a PNG, EXIF that stands before the pixels counts. PIL would decode them to look behind, and a damaged PNG that was
    decoded once decodes without an error from then on.
    """
    getexif = Image.Image.getexif if image.format == "PNG" else type(image).getexif
    try:
        number = getexif(image).get(_ORIENTATION, 1)
    except Exception:  # as above
        return 1
    return number if number in _TURNS else 1


def read_header(source: Any, max_pixels: int = MAX_PIXELS) -> Header:
    """Size and orientation of a picture, with nothing decoded; `source` as for :func:`to_rgb`.

    Raises:
        BadImage, OSError: as :func:`open_image`.
    """
    if isinstance(source, Image.Image):
        return _header(source)
    with open_image(source, max_pixels) as image:
        return _header(image)


def _header(image: Image.Image) -> Header:
    orientation = _orientation(image)
    # PIL turns TIFF by itself, and says their upright size from the beginning.
    turned = orientation >= 5 and image.format != "TIFF"
    return Header(*(image.size[::-1] if turned else image.size), orientation)


def to_rgb(source: Any, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The upright picture in 8-bit RGB, whichever way it came.

    EXIF's orientation is applied, transparency is laid on white, 16-bit grey is scaled (its upper byte is kept), CMYK,
    palettes and grey are converted; of an animation the first frame counts, or the one that a PIL image was sought to.
    An upright RGB picture keeps its pixels, bit for bit, and a result given again comes back as it is.

    Args:
        source: bytes, a path, a binary file, or a PIL image.
        max_pixels: as for :func:`open_image`; a PIL image was judged when it was opened.

    Raises:
        BadImage: no picture, truncated or damaged, of floating-point or 32-bit pixels, or a decompression bomb.
        OSError: the file cannot be opened.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source)
    with open_image(source, max_pixels) as image:  # closes the file, not the pixels
        return _to_rgb(image)


def prepared_image(image: Any) -> Any:
    """What a processor works on: a PIL image as upright RGB; arrays and tensors are pixels already."""
    return to_rgb(image) if isinstance(image, Image.Image) else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.format == "PNG":
        _orientation(image)  # which remembers what stands before the pixels
    _load(image)
    orientation = _orientation(image)  # after load: a TIFF is upright by now
    try:
        pixels = _eight_bits(image)
    except BadImage:
        raise
    except Exception as error:  # a mode that PIL converts to no RGB, such as LAB
        raise BadImage("image of unknown colors", f"mode {image.mode}") from error
    if orientation != 1:
        pixels = pixels.transpose(_TURNS[orientation])
        pixels.info = {}  # it still told to turn
    return pixels


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise BadImage("image of floating-point pixels", f"mode {image.mode}; scale them to 8 bits first")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _scaled(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey."""
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise BadImage("image of 32-bit pixels", f"values from {values.min()} to {values.max()}; scale them to 8 bits")
    # Mode I has 32 bits, and PIL uses it for 16-bit and for 8-bit pictures.
    scaled = values if image.mode == "I" and values.max(initial=0) <= 255 else values >> 8
    if isinstance(transparent := image.info.get("transparency"), int):
        scaled = np.where(values == transparent, 255, scaled)
    return Image.fromarray(scaled.astype(np.uint8))


__all__ = ["FORMATS", "MAX_PIXELS", "BadImage", "Header", "open_image", "prepared_image", "read_header", "to_rgb"]
