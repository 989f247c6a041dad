"""Where images come from: orientation, names that leave their folder, rows of a data set that cannot be decoded."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageColumn
from PIL import Image

from eval.images import DatasetImage, ImageFile, UnreadableImage, inside, upright_boxes
from modeling_fgclip.pixels import Header


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


def test_files_open_upright(tmp_path):
    path = tmp_path / "phone.jpg"
    path.write_bytes(sideways_jpeg())
    check_upright(ImageFile(path).open())
    assert (ImageFile(path).header().size, ImageFile(path).header().stored) == ((20, 40), (40, 20))


@pytest.mark.parametrize("declared", [(40.0, 20.0), (20.0, 40.0), None, (80.0, 40.0)])
def test_boxes_turn_with_their_image_as_the_declared_size_says(tmp_path, declared):
    """The red half, in the pixels of the stored or of the upright image."""
    image = ImageFile(tmp_path / "phone.jpg")
    image.path.write_bytes(sideways_jpeg())
    box = np.array([[0, 0, 20, 20]], np.float32)
    if declared == (80.0, 40.0):
        with pytest.raises(ValueError, match="declares 80×40 pixels, the picture has 20×40 or 40×20"):
            upright_boxes(image, box, declared)
        return
    boxes = upright_boxes(image, box, declared)
    assert boxes.normalized().tolist() == [[0, 0, 1, 0.5]]
    x1, y1, x2, y2 = boxes.xyxy[0]
    red, _, blue = np.asarray(image.open().crop((x1, y1, x2, y2))).reshape(-1, 3).mean(0)
    assert red > 200 > 50 > blue


def test_boxes_of_an_image_that_cannot_be_read_stay_as_they_are(tmp_path):
    image, box = ImageFile(tmp_path / "none.jpg"), np.array([[1, 2, 3, 4]], np.float32)
    assert upright_boxes(image, box, (10.0, 10.0)).normalized().tolist() == np.float32([[0.1, 0.2, 0.3, 0.4]]).tolist()
    assert upright_boxes(image, box, None).normalized().tolist() == [[0, 0, 1, 1]]


@pytest.fixture
def rows() -> Dataset:
    """An image, a broken one, one whose header alone is whole, and none; as stored."""
    data = sideways_jpeg()
    values = [data, b"not an image", data[:-25], None]
    column = [{"bytes": value, "path": None} if value is not None else None for value in values]
    return Dataset.from_dict({"image": column}, features=Features({"image": ImageColumn(decode=False)}))


def test_rows_as_stored(rows):
    check_upright(DatasetImage(rows, 0).open())
    for row in (0, 2):  # from the header: nothing is decoded
        assert DatasetImage(rows, row).header() == Header(20, 40, 6)
    for broken in (1, 2, 3):
        with pytest.raises(UnreadableImage, match=f"row {broken} of the data set"):
            DatasetImage(rows, broken).open()
    for broken in (1, 3):
        with pytest.raises(UnreadableImage, match=f"row {broken} of the data set"):
            DatasetImage(rows, broken).header()


def test_rows_that_the_data_set_decodes(rows):
    decoded = rows.cast_column("image", ImageColumn())
    check_upright(DatasetImage(decoded, 0).open())
    assert DatasetImage(decoded, 0).header() == Header(20, 40)
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
