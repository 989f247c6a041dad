"""Where images come from: orientation, names that leave their folder, rows of a data set that cannot be decoded."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from datasets import Dataset, Features
from datasets import Image as ImageColumn
from PIL import Image

from eval.images import DatasetImage, ImageFile, UnreadableImage, inside


def sideways_jpeg() -> bytes:
    """40×20 as stored, red left and blue right; its EXIF orientation says to turn it by 90° clockwise."""
    image = Image.new("RGB", (40, 20), (230, 20, 20))
    image.paste((20, 30, 230), (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, quality=95)
    return buffer.getvalue()


def check_upright(image: Image.Image) -> None:
    assert image.size == (20, 40)
    assert image.getpixel((10, 5))[0] > 200  # what was left is above


def check_stored(image: Image.Image) -> None:
    assert image.size == (40, 20)
    assert image.getpixel((5, 10))[0] > 200


def test_files_open_upright_unless_they_are_to_be_read_as_stored(tmp_path):
    path = tmp_path / "phone.jpg"
    path.write_bytes(sideways_jpeg())
    check_upright(ImageFile(path).open())
    check_stored(ImageFile(path, upright=False).open())
    assert ImageFile(path).identity() != ImageFile(path, upright=False).identity()  # the cache must not mix them


@pytest.fixture
def rows() -> Dataset:
    """An image, a broken one, one whose header alone is whole, and none; as stored."""
    data = sideways_jpeg()
    values = [data, b"not an image", data[:-25], None]
    column = [{"bytes": value, "path": None} if value is not None else None for value in values]
    return Dataset.from_dict({"image": column}, features=Features({"image": ImageColumn(decode=False)}))


def test_rows_as_stored(rows):
    check_upright(DatasetImage(rows, 0).open())
    check_stored(DatasetImage(rows, 0, upright=False).open())
    assert (DatasetImage(rows, 0).size(), DatasetImage(rows, 0, upright=False).size()) == ((20, 40), (40, 20))
    assert DatasetImage(rows, 2, upright=False).size() == (40, 20)  # from the header: nothing is decoded
    for broken in (1, 2, 3):
        with pytest.raises(UnreadableImage, match=f"row {broken} of the data set"):
            DatasetImage(rows, broken).open()
    for broken in (1, 3):
        with pytest.raises(UnreadableImage, match=f"row {broken} of the data set"):
            DatasetImage(rows, broken).size()


def test_rows_that_the_data_set_decodes(rows):
    decoded = rows.cast_column("image", ImageColumn())
    check_upright(DatasetImage(decoded, 0).open())
    assert DatasetImage(decoded, 0).size() == (20, 40)
    with pytest.raises(UnreadableImage, match="row 1 of the data set"):
        DatasetImage(decoded, 1).open()


@pytest.mark.parametrize(
    "name", ["../x.jpg", "a/../../x.jpg", "/etc/passwd", "C:evil.jpg", "C:/x.jpg", "..\\x", "a\\b.jpg", "\\\\host\\x"]
)
def test_names_that_leave_their_folder_on_any_system(name):
    with pytest.raises(ValueError, match="could leave its root"):
        inside(Path("root"), name)


def test_names_below_their_folder():
    assert inside(Path("root"), "a b/c.d/é.jpg") == Path("root/a b/c.d/é.jpg")
