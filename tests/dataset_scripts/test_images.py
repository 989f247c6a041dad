from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dataset_scripts.images import BadImage, check_image


def _picture(width: int = 40, height: int = 24) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], 2).astype(np.uint8))


def _encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode in ("RGB", "L")
        assert image.getexif().get(0x0112, 1) == 1
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_images_keep_their_bytes(kind: str, mode: str) -> None:
    image = _picture().convert(mode)
    data = _encode(image, kind)
    if kind == "WEBP" and mode == "L":  # WebP knows no grey
        mode = "RGB"
    checked = check_image(data)
    assert (checked.data, checked.width, checked.height) == (data, 40, 24)


def test_other_kinds_become_the_same_picture_in_rgb() -> None:
    picture = _picture()
    expected = np.asarray(picture).astype(int)
    for data, tolerance in (
        (_encode(picture.convert("CMYK"), "JPEG", quality=100), 6),
        (_encode(picture.quantize(256), "PNG"), 30),
        (_encode(picture, "BMP"), 0),
        (_encode(picture, "TIFF"), 0),
    ):
        assert np.abs(_decode(check_image(data).data) - expected).max() <= tolerance


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_rotated_images_are_turned_upright(orientation: int) -> None:
    picture = _picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    checked = check_image(_encode(picture, "JPEG", quality=100, subsampling=0, exif=exif))
    assert (checked.width, checked.height) == ((24, 40) if orientation >= 5 else (40, 24))
    # Oracle: the numpy operation that the EXIF standard gives each orientation.
    turn = {2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2)}
    turn |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90}
    expected = turn[orientation](np.asarray(picture).astype(int))
    assert np.abs(_decode(checked.data) - expected).max() <= 8


def test_unusable_bytes_are_named() -> None:
    jpeg = _encode(_picture(200, 200), "JPEG")
    for data, reason in (
        (b"", "image file is empty"),
        (b"\n<!DOCTYPE html><html>404</html>", "HTML or XML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "HTML or XML"),
        (b"not an image at all", "not an image"),
        (jpeg[: len(jpeg) // 2], "truncated or damaged"),
        (_encode(_picture(200, 200), "PNG")[:300], "truncated or damaged"),
        (_encode(_picture(1, 1), "PNG"), "too small"),
        (_encode(Image.new("1", (20000, 20000)), "PNG"), "decompression bomb"),
        (_encode(Image.new("1", (11000, 11000)), "PNG"), "decompression bomb"),
    ):
        with pytest.raises(BadImage, match=reason) as error:
            check_image(data)
        assert reason in error.value.reason
