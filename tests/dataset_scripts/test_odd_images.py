"""Images of every odd kind, in the published layout: kept as upright RGB or counted, by the reader and the conversion."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataset_scripts.convert import ConvertSettings, convert, finehard_source
from dataset_scripts.finehard import FineHARD
from dataset_scripts.report import Report
from dataset_scripts.streaming import load_training_data


def _rotated(picture: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _encoded(picture.resize((64, 48)), "JPEG", exif=exif)


def _encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _sixteen_bits(picture: Image.Image) -> bytes:
    return _encoded(Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257), "PNG")


KEPT: dict[str, Callable[[Image.Image], bytes]] = {
    "CMYK": lambda picture: _encoded(picture.convert("CMYK"), "JPEG"),
    "palette": lambda picture: _encoded(picture.quantize(16), "PNG"),
    "16-bit": _sixteen_bits,
    "EXIF-rotated": _rotated,
}
REFUSED: dict[str, tuple[Callable[[Image.Image], bytes], str]] = {
    "truncated": (lambda picture: _encoded(picture, "JPEG")[:-400], "image is truncated or damaged"),
    "zero-byte": (lambda picture: b"", "image file is empty"),
    "HTML": (lambda picture: b"<!DOCTYPE html><html></html>", "HTML or XML instead of an image"),
    "1×1": (lambda picture: _encoded(picture.resize((1, 1)), "PNG"), "image is too small"),
    "bomb": (lambda picture: _encoded(Image.new("1", (11000, 11000)), "PNG"), "image is a decompression bomb"),
}


def _put(layout: Path, contents: list[bytes]) -> list[str]:
    """Replaces the first images of the layout and says which."""
    records = json.loads((layout / "jsonfiles" / "part-0.json").read_text())
    names = [record["f_path"].removeprefix("grit-20m/data-12m/") for record in records[: len(contents)]]
    for name, content in zip(names, contents, strict=True):
        (layout / "images" / name).write_bytes(content)
    return names


@pytest.fixture
def picture(layout: Path) -> Image.Image:
    return Image.open(next(layout.glob("images/*/*/*.jpg"))).convert("RGB")


def test_unusual_images_are_kept_as_upright_rgb(layout: Path, picture: Image.Image, tmp_path: Path) -> None:
    names = _put(layout, [encode(picture) for encode in KEPT.values()])
    reader = FineHARD(root=str(layout), cache_dir=str(tmp_path / "cache"), on_bad="raise")
    records = {record["source_id"]: record for record in reader.as_streaming_dataset(split="train")}
    convert(finehard_source(str(layout), tmp_path, Report()), tmp_path / "out", ConvertSettings(on_bad="raise"))
    rows = {
        row["source_id"]: row
        for path in (tmp_path / "out").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    assert len(records) == len(rows) == 40
    for kind, name in zip(KEPT, names, strict=True):
        expected = np.asarray(picture.resize((64, 48)).rotate(-90, expand=True) if kind == "EXIF-rotated" else picture)
        if kind == "16-bit":
            expected = np.asarray(picture.convert("L").convert("RGB"))
        image = records[name]["image"]
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image).astype(int) - expected).mean() < 12, kind
        with Image.open(io.BytesIO(rows[name]["image"]["bytes"])) as stored:
            assert stored.mode in ("RGB", "L"), kind
            assert stored.getexif().get(0x0112, 1) == 1
            np.testing.assert_array_equal(np.asarray(stored.convert("RGB")), np.asarray(image))


def test_unusable_images_are_counted_and_listed(layout: Path, picture: Image.Image, tmp_path: Path) -> None:
    names = _put(layout, [encode(picture) for encode, _ in REFUSED.values()])
    expected = {reason: 1 for _, reason in REFUSED.values()}
    reader = FineHARD(root=str(layout), cache_dir=str(tmp_path / "cache"))
    assert len(list(reader.as_streaming_dataset(split="train"))) == 35
    assert reader.report().problems == expected
    manifest = convert(finehard_source(str(layout), tmp_path, Report()), tmp_path / "out", ConvertSettings())
    assert manifest["totals"]["records"] == 35
    assert manifest["images"]["problems"] == expected
    listed = [json.loads(line) for line in (tmp_path / "out" / "train-left_out.jsonl").read_text().splitlines()]
    assert {(entry["draft"]["source_id"], entry["reason"]) for entry in listed} == set(
        zip(names, expected, strict=True)
    )


def test_a_stream_counts_them_too(layout: Path, picture: Image.Image) -> None:
    """Each once and with its place, however often the layout comes round, and where a run resumes on it."""
    names = _put(layout, [encode(picture) for encode, _ in REFUSED.values()])
    stream = load_training_data(layout, streaming=True)
    records = iter(stream)
    seen, states = [], []
    for _ in range(80):
        seen.append(next(records)["source_id"])
        states.append(stream.state_dict())
    assert len(set(seen[:35])) == len(set(seen)) == 35
    assert set(seen).isdisjoint(names)
    assert stream.report.problems == {reason: 1 for _, reason in REFUSED.values()}
    assert stream.report.examples["image is truncated or damaged"][0].startswith(f"part-0.json[0] {names[0]}")
    for stop in range(0, 80, 7):
        resumed = load_training_data(layout, streaming=True)
        resumed.load_state_dict(states[stop])
        assert [record["source_id"] for record in itertools.islice(resumed, 79 - stop)] == seen[stop + 1 :]


@pytest.mark.parametrize("kind", REFUSED)
def test_each_is_an_error_where_faults_are_to_raise(
    layout: Path, picture: Image.Image, tmp_path: Path, kind: str
) -> None:
    encode, reason = REFUSED[kind]
    _put(layout, [encode(picture)])
    with pytest.raises(ValueError, match=rf"{reason} in part-0\.json\[0\].*on_bad='skip'"):
        list(FineHARD(root=str(layout), on_bad="raise").as_streaming_dataset(split="train"))
    with pytest.raises(ValueError, match=reason):
        convert(finehard_source(str(layout), tmp_path, Report()), tmp_path / "out", ConvertSettings(on_bad="raise"))
    with pytest.raises(ValueError, match=rf"{reason} in part-0\.json\[0\].*on_bad='skip'"):
        list(itertools.islice(load_training_data(layout, streaming=True, on_bad="raise"), 40))
