from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import IterableDataset
from PIL import Image
from torch.utils.data import DataLoader

from dataset_scripts.finehard import FineHARD
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.schema import FEATURES


def _published(root: Path) -> list[dict]:
    return [record for path in sorted(root.glob("jsonfiles/*.json")) for record in json.loads(path.read_text())]


def _change(root: Path, number: int, change: Callable[[dict], object]) -> None:
    """Applies ``change`` to record ``number`` of the 40 on disk."""
    path = root / "jsonfiles" / f"part-{number // 10}.json"
    records = json.loads(path.read_text())
    change(records[number % 10])
    path.write_text(json.dumps(records))


def _image(root: Path, number: int) -> Path:
    return root / "images" / _published(root)[number]["f_path"].removeprefix("grit-20m/data-12m/")


def _reader(root: Path, tmp_path: Path, **options) -> FineHARD:
    return FineHARD(root=str(root), cache_dir=str(tmp_path / "cache"), **options)


def test_streaming_and_prepared_give_the_published_records(layout: Path, tmp_path: Path) -> None:
    reader = _reader(layout, tmp_path)
    streamed = reader.as_streaming_dataset(split="train")
    assert isinstance(streamed, IterableDataset)
    assert streamed.num_shards == 4
    reader.download_and_prepare()
    prepared = reader.as_dataset(split="train")
    assert prepared.features == streamed.features == FEATURES
    published = _published(layout)
    for both in (streamed, prepared):
        records = list(both)
        assert len(records) == 40
        for record, source in zip(records, published, strict=True):
            assert record["image"].size == (64, 64)
            assert record["image"].mode == "RGB"
            path = layout / "images" / record["source_id"]
            np.testing.assert_array_equal(np.asarray(record["image"]), np.asarray(Image.open(path)))
            assert source["f_path"] == "grit-20m/data-12m/" + record["source_id"]
            assert (record["caption"], record["short_captions"]) == (source["caption"], [source["short_caption"]])
            for region, info in zip(record["regions"], source["bbox_info"], strict=True):
                np.testing.assert_allclose([*region["bbox"], region["score"]], info["bbox"], atol=1e-6)
                assert region["short_expr"] == info["short_expr"]
                assert region["negatives"] == list(info.get("short_expr_negs", {}).values())


def test_a_folder_of_layouts_gives_its_splits(sample: Path, tmp_path: Path) -> None:
    reader = _reader(sample, tmp_path)
    assert len(list(reader.as_streaming_dataset(split="test"))) == 12
    assert len(list(reader.as_streaming_dataset(split="train"))) == 40
    with pytest.raises(ValueError, match="published layout"):
        _reader(sample / "fgovd", tmp_path).as_streaming_dataset(split="train")


def _damage(root: Path) -> dict[str, int]:
    """Breaks eleven records in as many ways and says how each must be counted."""
    _image(root, 0).unlink()
    _image(root, 1).write_bytes(b"")
    _image(root, 2).write_bytes(b"<html><body>404</body></html>")
    _image(root, 3).write_bytes(_image(root, 3).read_bytes()[:-500])
    Image.new("RGB", (1, 1)).save(_image(root, 4))
    (root / "secret.jpg").write_bytes(_image(root, 11).read_bytes())
    _change(root, 10, lambda record: record.update(f_path="grit-20m/data-12m/../secret.jpg"))
    _change(root, 11, lambda record: record.update(caption="", short_caption=None))
    _change(root, 12, lambda record: record["bbox_info"][0].update(bbox=[0.9, 0.9, 0.1, 0.1, 1.0]))
    _change(root, 13, lambda record: record["bbox_info"][0].update(bbox=[0.1, float("nan"), 0.5, 0.5, 1.0]))
    path = root / "jsonfiles" / "part-2.json"
    path.write_text(path.read_text().replace('"caption":', '"caption"', 1))
    path = root / "jsonfiles" / "part-3.json"
    path.write_text(path.read_text()[:-300])
    return {
        "image file is missing": 1,
        "image file is empty": 1,
        "HTML or XML instead of an image": 1,
        "image is truncated or damaged": 1,
        "image is too small": 1,
        "path leaves its root": 1,
        "caption is missing": 1,
        "record without a caption": 1,
        "box is inverted or empty": 1,
        "box has a coordinate that is no finite number": 1,
        "record is no valid JSON": 2,
    }


@pytest.mark.parametrize("how", ["streaming", "workers", "prepared", "prepared in parallel"])
def test_nothing_disappears_without_being_counted(layout: Path, tmp_path: Path, how: str) -> None:
    regions = sum(len(record["bbox_info"]) for record in _published(layout))
    expected = _damage(layout)
    reader = _reader(layout, tmp_path)
    if how == "streaming":
        kept = list(reader.as_streaming_dataset(split="train"))
    elif how == "workers":
        streamed = reader.as_streaming_dataset(split="train")
        kept = [batch[0] for batch in DataLoader(streamed, batch_size=1, num_workers=2, collate_fn=list)]
    else:
        reader.download_and_prepare(num_proc=2 if "parallel" in how else None)
        kept = list(reader.as_dataset(split="train"))
    assert len(kept) == 40 - 9
    report = reader.report()
    assert dict(report.problems) == expected
    assert report.kept["records read"] == 40
    assert report.kept["records kept"] == len(kept)
    assert report.kept["regions"] == sum(len(record["regions"]) for record in kept) < regions
    assert report.kept["annotation files read to their end"] == 4
    assert "secret" not in {record["source_id"] for record in kept}
    assert "part-0.json[0]" in report.examples["image file is missing"][0]


def test_a_fault_can_be_made_an_error_but_a_missing_image_is_none(layout: Path, tmp_path: Path) -> None:
    _image(layout, 0).unlink()
    reader = _reader(layout, tmp_path, on_bad="raise")
    assert len(list(reader.as_streaming_dataset(split="train"))) == 39
    _image(layout, 5).write_bytes(b"")
    with pytest.raises(ValueError, match=r"image file is empty in part-0.json\[5\].*on_bad='skip'"):
        list(reader.as_streaming_dataset(split="train"))
    with pytest.raises(ValueError, match="on_bad"):
        _reader(layout, tmp_path, on_bad="ignore")


@pytest.mark.parametrize("what", ["annotation", "image", "new file"])
def test_the_cache_notices_changed_files(layout: Path, tmp_path: Path, what: str) -> None:
    def prepared() -> list[dict]:
        reader = _reader(layout, tmp_path)
        reader.download_and_prepare()
        return list(reader.as_dataset(split="train"))

    before = prepared()
    assert _reader(layout, tmp_path).cache_dir == _reader(layout, tmp_path).cache_dir
    if what == "annotation":
        _change(layout, 0, lambda record: record.update(caption="changed"))
        assert prepared()[0]["caption"] == "changed"
    elif what == "image":
        Image.new("RGB", (64, 64), "red").save(_image(layout, 0))
        assert prepared()[0]["image"].getpixel((5, 5)) != before[0]["image"].getpixel((5, 5))
    else:
        (layout / "jsonfiles" / "part-9.json").write_text(json.dumps(_published(layout)[:3]))
        assert len(prepared()) == 43


def test_images_may_lie_elsewhere(layout: Path, tmp_path: Path) -> None:
    (layout / "images").rename(tmp_path / "pictures")
    reader = _reader(layout, tmp_path, images=str(tmp_path / "pictures"))
    assert len(list(reader.as_streaming_dataset(split="train"))) == 40


def test_a_root_is_needed() -> None:
    with pytest.raises(ValueError, match="root="):
        FineHARD()


def test_streaming_resumes_where_it_stopped(layout: Path, tmp_path: Path) -> None:
    _damage(layout)
    whole = [r["source_id"] for r in _reader(layout, tmp_path).as_streaming_dataset(split="train")]
    for stop in (1, 8, 20):
        streamed = _reader(layout, tmp_path).as_streaming_dataset(split="train")
        first = []
        for record in streamed:
            first.append(record["source_id"])
            if len(first) == stop:
                break
        again = _reader(layout, tmp_path).as_streaming_dataset(split="train")
        again.load_state_dict(streamed.state_dict())
        assert first + [record["source_id"] for record in again] == whole


def test_images_behind_a_link_are_watched_too_and_a_copy_elsewhere_counts_as_the_same(
    layout: Path, tmp_path: Path
) -> None:
    (layout / "images").rename(tmp_path / "disk")
    (layout / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk")
    before, moved = fingerprint(str(layout)), fingerprint(str(layout / "jsonfiles"), times=False)
    assert fingerprint(str(layout)) == before
    Image.new("RGB", (64, 64), "red").save(_image(layout, 3))
    assert fingerprint(str(layout)) != before
    shutil.copytree(layout / "jsonfiles", tmp_path / "copy")
    assert fingerprint(str(tmp_path / "copy"), times=False) == moved
    assert fingerprint(str(tmp_path / "copy")) != fingerprint(str(layout / "jsonfiles"))
