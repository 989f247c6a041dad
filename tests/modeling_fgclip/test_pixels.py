"""One picture, one array of pixels, whichever way it comes: as file, bytes, file object or PIL image, in any mode."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modeling_fgclip import pixels
from modeling_fgclip.pixels import BadImage, open_image, read_header, to_rgb

# The numpy operation that the EXIF standard gives each orientation.
TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: a[::-1, ::-1],
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


def picture(width: int = 40, height: int = 24) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], 2).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(image: Image.Image, kind: str, orientation: int, **options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif, **options)


def array(source) -> np.ndarray:
    image = to_rgb(source)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_in_every_format_and_every_way_in(kind: str, orientation: int, tmp_path: Path) -> None:
    data = oriented(picture(), kind, orientation, **({"lossless": True} if kind == "WEBP" else {}))
    expected = TURNS[orientation](np.asarray(picture()).astype(int))
    path = tmp_path / "picture"
    path.write_bytes(data)
    for source in (data, path, str(path), io.BytesIO(data), Image.open(path), Image.open(path).convert("RGB")):
        np.testing.assert_array_equal(array(source), expected)
    np.testing.assert_array_equal(array(to_rgb(data)), expected)  # it turns once, however often it is asked
    header = read_header(path)
    assert header == read_header(data) == read_header(Image.open(path))
    assert header.size == expected.shape[1::-1]
    assert header.stored == (40, 24)
    assert header.orientation == orientation


def test_upright_rgb_keeps_its_pixels_and_its_caller_his_image() -> None:
    image = picture()
    assert to_rgb(image) is image
    data = encoded(image, "JPEG")
    np.testing.assert_array_equal(array(data), np.asarray(Image.open(io.BytesIO(data))))


def test_damaged_exif_is_no_fault_of_the_pixels() -> None:
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0junk", b"Exif\0\0"):
        np.testing.assert_array_equal(array(encoded(picture(), "PNG", exif=exif)), np.asarray(picture()))
    assert read_header(oriented(picture(), "PNG", 9)).orientation == 1


def test_transparency_lies_on_white_in_every_mode_that_has_it() -> None:
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:8] = (255, 0, 0, 255)
    rgba[8:12] = (0, 0, 255, 128)
    image = Image.fromarray(rgba)
    expected = np.full((16, 16, 3), 255)
    expected[:8] = (255, 0, 0)
    expected[8:12] = (127, 127, 255)
    assert np.abs(array(image) - expected).max() <= 1
    assert np.abs(array(encoded(image, "PNG")) - expected).max() <= 1
    assert np.abs(array(encoded(image, "WEBP", lossless=True)) - expected).max() <= 1
    assert np.abs(array(image.convert("RGBa")) - expected).max() <= 1
    colors = Image.fromarray((rgba[..., 0] == 0).astype(np.uint8), "P")
    colors.putpalette([255, 0, 0, 0, 255, 0])
    for kind in ("GIF", "PNG"):  # palettes with a transparent entry
        paletted = array(encoded(colors, kind, transparency=1))
        assert (paletted[:8] == (255, 0, 0)).all(), kind
        assert (paletted[8:] == 255).all(), kind
    grey = Image.fromarray(rgba[..., 0])
    assert (array(Image.merge("LA", (grey, grey)))[8:] == 255).all()
    for mode, color in (("L", 7), ("RGB", (7, 7, 7)), ("1", 0), ("I;16", 7)):  # one color is transparent
        keyed = encoded(Image.new(mode, (16, 16), color), "PNG", transparency=color)
        assert "transparency" in open_image(keyed).info
        assert (array(keyed) == 255).all(), mode


def test_sixteen_bit_grey_is_scaled_from_every_format() -> None:
    values = np.linspace(0, 65535, 32 * 20).reshape(20, 32).astype(np.uint16)
    image = Image.fromarray(values)
    pgm = b"P5 32 20 65535\n" + values.astype(">u2").tobytes()
    for source in (
        image,
        encoded(image, "PNG"),
        encoded(image, "TIFF"),
        pgm,
        Image.fromarray(values.astype(np.int32)),
    ):
        np.testing.assert_array_equal(array(source)[..., 1], values >> 8)
    dark = (values >> 9).astype(np.uint16)  # below 256, and still 16 bits
    np.testing.assert_array_equal(array(encoded(Image.fromarray(dark), "PNG"))[..., 0], 0)
    eight = (values >> 8).astype(np.int32)  # PIL's mode I holds 8-bit pictures too
    np.testing.assert_array_equal(array(Image.fromarray(eight))[..., 0], eight)


def test_other_colors_become_the_same_picture() -> None:
    expected = np.asarray(picture()).astype(int)
    for source, tolerance in (
        (encoded(picture().convert("CMYK"), "JPEG", quality=100), 6),
        (picture().convert("CMYK"), 1),
        (picture().convert("YCbCr"), 3),
        (picture().convert("HSV"), 8),
        (encoded(picture().quantize(256), "PNG"), 30),
        (encoded(picture(), "BMP"), 0),
        (encoded(picture(), "PPM"), 0),
    ):
        assert np.abs(array(source) - expected).max() <= tolerance
    grey = np.asarray(picture().convert("L"))
    np.testing.assert_array_equal(array(picture().convert("L")), np.stack([grey] * 3, 2))


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert open_image(data).n_frames == 2
        assert (array(data) == (255, 0, 0)).all(), kind


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "image file is empty"),
        (b"\n<!DOCTYPE html><html>404</html>", "HTML or XML"),
        (b"not an image at all", "not an image"),
        (encoded(picture(200, 200), "JPEG")[:1500], "truncated or damaged"),
        (encoded(picture(200, 200), "PNG")[:300], "truncated or damaged"),
        (encoded(Image.new("1", (11000, 11000)), "PNG"), "decompression bomb"),
        (encoded(Image.new("1", (20000, 20000)), "PNG"), "decompression bomb"),
        (encoded(picture(), "ICO", sizes=[(16, 16)]), "not an image"),  # of a format that is not allowed
        (Image.fromarray(np.ones((8, 8), np.float32)), "floating-point"),
        (Image.fromarray(np.full((8, 8), 70_000, np.int32)), "32-bit"),
        (Image.new("La", (8, 8)), "unknown colors"),
    ],
)
def test_what_is_no_picture_is_named(source, reason: str, tmp_path: Path) -> None:
    forms = [source]
    if isinstance(source, bytes):
        (tmp_path / "file").write_bytes(source)
        forms += [tmp_path / "file", io.BytesIO(source)]
    for form in forms:
        with pytest.raises(BadImage, match=reason) as error:
            to_rgb(form)
        assert reason in error.value.reason


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        for read in (to_rgb, read_header, open_image):
            with pytest.raises(OSError, match=path.name):
                read(path)


def test_it_travels_alone() -> None:
    lines = Path(pixels.__file__).read_text(encoding="utf-8").splitlines()
    imports = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imports <= {"io", "os", "dataclasses", "typing", "numpy", "PIL"}


def test_there_is_no_second_conversion() -> None:
    root = Path(__file__).parents[2]
    folders = ("modeling_fgclip", "dataset_scripts", "training", "eval", "benchmarks", "spaces")
    found = [
        str(path.relative_to(root))
        for folder in folders
        for path in (root / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if '.convert("RGB")' in line or "exif_transpose" in line
    ]
    assert found == ["modeling_fgclip/pixels.py"]
