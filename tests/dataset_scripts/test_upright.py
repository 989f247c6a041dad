"""Boxes turn with their picture, in every orientation, and in every converter that knows the size its boxes belong to."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataset_scripts.convert import ConvertSettings, convert
from dataset_scripts.images import check_image
from dataset_scripts.own_data import Columns, coco_source, flickr30k_source, table_source
from dataset_scripts.upright import turn_box, turn_of_boxes
from eval.images import ImageFile
from eval.tasks import make_task
from modeling_fgclip.pixels import Header, to_rgb


def photograph(orientation: int, box: tuple[int, int, int, int] = (8, 8, 24, 20)) -> bytes:
    """64×48 as stored, blue, with a red box."""
    image = Image.new("RGB", (64, 48), "blue")
    image.paste("red", box)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    return buffer.getvalue()


def red_box(image: Image.Image) -> list[float]:
    """Where the picture is red, as normalized x1, y1, x2, y2."""
    red = np.asarray(image)[..., 0] > 128
    columns, rows = np.flatnonzero(red.any(0)), np.flatnonzero(red.any(1))
    sides = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return [float(edge) / side for edge, side in zip(sides, image.size * 2, strict=True)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_lands_where_its_pixels_land(orientation: int) -> None:
    turned = turn_box([8 / 64, 8 / 48, 24 / 64, 20 / 48, 0.9], orientation)
    assert turned[:4] == pytest.approx(red_box(to_rgb(photograph(orientation))))
    assert turned[4] == 0.9  # what follows the box is kept


def test_the_declared_size_decides() -> None:
    sideways = Header(48, 64, 6)
    assert turn_of_boxes(sideways, (64, 48)) == 6
    assert turn_of_boxes(sideways, (48.0, 64.0)) == turn_of_boxes(sideways, None) == 1
    assert turn_of_boxes(Header(64, 48, 3), (64, 48)) == 1  # both have this size: the upright one
    with pytest.raises(ValueError, match=r"declares 640×480 pixels, the picture has 48×64 or 64×48"):
        turn_of_boxes(sideways, (640, 480))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "phone.jpg").write_bytes(photograph(6))
    (folder / "plain.jpg").write_bytes(photograph(1))
    return folder


def converted(source, folder: Path) -> tuple[dict[str, dict], dict]:
    manifest = convert(source, folder, ConvertSettings())
    return {row["source_id"]: row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()}, (
        manifest
    )


def coco(sizes: dict[str, tuple[int, int]], boxes: dict[str, list[int]]) -> dict:
    return {
        "images": [{"id": i, "file_name": n, "width": w, "height": h} for i, (n, (w, h)) in enumerate(sizes.items())],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": boxes[name], "iscrowd": 0}
            for i, name in enumerate(sizes)
        ],
        "categories": [{"id": 1, "name": "red thing"}],
    }


@pytest.mark.parametrize("size", ["stored", "upright"])
def test_coco_boxes_and_pictures_agree(pictures: Path, tmp_path: Path, size: str) -> None:
    stored = [8, 8, 16, 12]
    phone = ((64, 48), stored) if size == "stored" else ((48, 64), [28, 8, 12, 16])
    content = coco({"phone.jpg": phone[0], "plain.jpg": (64, 48)}, {"phone.jpg": phone[1], "plain.jpg": stored})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    records, manifest = converted(coco_source(None, tmp_path / "instances.json", str(pictures)), tmp_path / "out")
    assert not manifest["images"]["problems"]
    for record in records.values():
        (region,) = record["regions"]
        assert region["bbox"] == pytest.approx(red_box(to_rgb(record["image"]["bytes"])), abs=1e-6)


def test_another_size_is_counted_and_names_both(pictures: Path, tmp_path: Path) -> None:
    content = coco({"phone.jpg": (640, 480)}, {"phone.jpg": [8, 8, 16, 12]})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    source = coco_source(None, tmp_path / "instances.json", str(pictures))
    records, manifest = converted(source, tmp_path / "out")
    assert records["phone.jpg"]["regions"] == []
    assert manifest["images"]["problems"] == {"declared size is not the image's": 1}
    assert "640×480 pixels, the picture has 48×64 or 64×48" in str(manifest["images"]["examples"])
    with pytest.raises(ValueError, match=r"phone\.jpg.*640×480 pixels, the picture has 48×64"):
        convert(source, tmp_path / "again", ConvertSettings(on_bad="raise"))


def test_flickr30k_boxes_and_pictures_agree(pictures: Path, tmp_path: Path) -> None:
    for folder, name, content in (
        ("Sentences", "phone.txt", "[/EN#1/other A red box] is on blue .\n"),
        (
            "Annotations",
            "phone.xml",
            "<annotation><size><width>64</width><height>48</height></size><object><name>1</name><bndbox><xmin>8</xmin>"
            "<ymin>8</ymin><xmax>24</xmax><ymax>20</ymax></bndbox></object></annotation>",
        ),
    ):
        (tmp_path / "entities" / folder).mkdir(parents=True)
        (tmp_path / "entities" / folder / name).write_text(content)
    records, _ = converted(flickr30k_source(tmp_path / "entities", str(pictures)), tmp_path / "out")
    (region,) = records["phone.jpg"]["regions"]
    assert region["bbox"] == pytest.approx(red_box(to_rgb(records["phone.jpg"]["image"]["bytes"])), abs=1e-6)


def test_odd_pictures_of_a_table_are_stored_as_they_look(tmp_path: Path) -> None:
    """Transparency on white, 16-bit grey scaled, CMYK, a palette, and a PNG by the name of a JPEG."""
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[:, :32] = (255, 0, 0, 255)
    ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(ramp).save(tmp_path / "i16.png")
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    Image.new("CMYK", (64, 48), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    Image.new("RGB", (64, 48), "red").quantize(4).save(tmp_path / "pal.gif")
    Image.new("RGB", (64, 48), "red").save(tmp_path / "really_png.jpg", "PNG")
    names = ("rgba.png", "i16.png", "la.png", "cmyk.jpg", "pal.gif", "really_png.jpg")
    (tmp_path / "t.csv").write_text("file,text\n" + "\n".join(f"{name},a {name}" for name in names))
    columns = Columns(image="file", caption=None, short_caption="text")
    records, _ = converted(table_source(tmp_path / "t.csv", str(tmp_path), columns), tmp_path / "out")
    looks = {name: np.asarray(to_rgb(record["image"]["bytes"])).astype(int) for name, record in records.items()}
    assert set(looks) == set(names)
    np.testing.assert_array_equal(looks["i16.png"][..., 0], ramp >> 8)
    for name in ("rgba.png", "la.png"):
        assert (looks[name][:, 32:] == 255).all(), name
    for name in ("cmyk.jpg", "pal.gif", "really_png.jpg"):
        assert np.abs(looks[name] - (255, 0, 0)).max() < 8, name
    for name, look in looks.items():  # the file itself gives the same pixels
        direct = np.asarray(to_rgb(tmp_path / name)).astype(int)
        assert np.abs(direct - look).max() <= (0 if not name.startswith("cmyk") else 8), name


def test_training_and_evaluation_see_the_same_pictures_and_boxes(pictures: Path, tmp_path: Path) -> None:
    content = coco(
        {"phone.jpg": (64, 48), "plain.jpg": (64, 48)}, {key: [8, 8, 16, 12] for key in ("phone.jpg", "plain.jpg")}
    )
    content["categories"].append({"id": 2, "name": "other"})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    alpha = Image.new("RGBA", (40, 30), (0, 0, 255, 0))
    alpha.paste((255, 0, 0, 255), (10, 10, 20, 20))
    alpha.save(pictures / "alpha.png")
    records, _ = converted(coco_source(None, tmp_path / "instances.json", str(pictures)), tmp_path / "out")
    task = make_task("boxes", {"data": tmp_path, "annotations": Path("instances.json"), "images": Path("pictures")})
    data = task.load()
    assert len(data.images) == 2
    for image, boxes in zip(data.images, data.boxes, strict=True):
        record = records[image.path.name]
        np.testing.assert_allclose(boxes.normalized()[0], record["regions"][0]["bbox"], atol=1e-7)
        stored = np.asarray(to_rgb(record["image"]["bytes"])).astype(int)
        assert np.abs(np.asarray(image.open()).astype(int) - stored).max() < 40  # a turned JPEG is encoded once more
    seen = np.asarray(ImageFile(pictures / "alpha.png").open())
    np.testing.assert_array_equal(seen, np.asarray(to_rgb(check_image((pictures / "alpha.png").read_bytes()).data)))
    assert (seen[0, 0] == 255).all()
