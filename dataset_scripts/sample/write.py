"""Writes the generated sample: FineHARD's published layout, FG-OVD's jsonl files and a COCO instances file."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset_scripts.locking import making, replacing_folder
from dataset_scripts.paths import PUBLISHED_PREFIX
from dataset_scripts.progress import progress_bar
from dataset_scripts.sample.captions import expression, free_expression, long_caption, short_caption
from dataset_scripts.sample.negatives import draw_slots, other_objects, replace_slots
from dataset_scripts.sample.render import PlacedBox, render
from dataset_scripts.sample.scene import SceneObject, draw_scene
from dataset_scripts.sample.vocabulary import SHAPES, Split

SETTINGS_FILE = "sample.json"
FGOVD_FILES = {
    "h_attributes_llava": "1_attributes",
    "m_attributes_llava": "2_attributes",
    "e_attributes_llava": "3_attributes",
    "shuffle_negatives_llava": "shuffle_negatives",
}
_CHUNK = 250  # images a task of a worker
_RECORDS_PER_FILE = 1000  # of jsonfiles/*.json, and images per folder
_FIRST_ID = {"train": 100_000_000, "test": 200_000_000}  # so that no two images of a sample share an id


@dataclass(frozen=True)
class SampleSettings:
    """What a generated sample depends on; equal settings give equal bytes."""

    seed: int = 0
    train: int = 8000  # images
    test: int = 1000  # images
    image_size: int = 128  # pixels a side

    def __post_init__(self) -> None:
        for name in ("seed", "train", "test", "image_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} is {value!r}; it must be an integer")
        if self.seed < 0 or self.train < 1 or self.test < 1:
            raise ValueError(f"received {self}; seed must be at least 0, train and test at least 1 image each")
        if not 64 <= self.image_size <= 1024 or self.image_size % 4:
            raise ValueError(f"image_size is {self.image_size}; it must be a multiple of 4 between 64 and 1024 pixels")


def _image_path(split: Split, index: int) -> str:
    return f"coyo_image_0/{index // _RECORDS_PER_FILE:05d}/{_FIRST_ID[split] + index}.jpg"


def _region(rng: np.random.Generator, thing: SceneObject, box: PlacedBox, size: int, split: Split) -> dict[str, Any]:
    wrong = replace_slots(rng, thing.appearance, draw_slots(rng, 1), split)
    corners = [round(edge / size, 5) for edge in (box.left, box.top, box.right, box.bottom)]
    return {
        "bbox": [*corners, 1.0],
        "short_expr": expression(thing.appearance),
        "long_expr": free_expression(thing, rng),
        "flag_short_neg": 1,
        "short_expr_negs": {str(number): expression(looks) for number, looks in enumerate(wrong)},
    }


def _fgovd_texts(rng: np.random.Generator, thing: SceneObject, split: Split) -> dict[str, list[str]]:
    looks = thing.appearance
    wrong = [replace_slots(rng, looks, draw_slots(rng, count), split) for count in (1, 2, 3)]
    wrong.append(other_objects(rng, looks, split))
    return {name: [expression(other) for other in others] for name, others in zip(FGOVD_FILES, wrong, strict=True)}


def _make_image(index: int, split: Split, settings: SampleSettings, images: Path) -> dict[str, Any]:
    """Draws one scene, writes its JPEG and returns all that the annotation files say of it."""
    rng = np.random.default_rng([settings.seed, list(_FIRST_ID).index(split), index])
    scene = draw_scene(rng, split)
    picture, boxes = render(scene, settings.image_size, rng)
    path = _image_path(split, index)
    picture.save(images / path, quality=95, subsampling=0)
    record = {
        "f_path": PUBLISHED_PREFIX + path,
        "caption": long_caption(scene, rng),
        "short_caption": short_caption(scene),
        "bbox_info": [
            _region(rng, thing, box, settings.image_size, split)
            for thing, box in zip(scene.objects, boxes, strict=True)
        ],
    }
    made: dict[str, Any] = {"record": record}
    if split == "test":
        made["boxes"] = [
            {
                "bbox": [float(box.left), float(box.top), float(box.right - box.left), float(box.bottom - box.top)],
                "area": float(box.area),
                "shape": thing.appearance.shape,
                "positive": expression(thing.appearance),
                "negatives": _fgovd_texts(rng, thing, split),
            }
            for thing, box in zip(scene.objects, boxes, strict=True)
        ]
    return made


def _make_chunk(start: int, stop: int, split: Split, settings: SampleSettings, images: Path) -> list[dict[str, Any]]:
    for folder in {(images / _image_path(split, index)).parent for index in (start, stop - 1)}:
        folder.mkdir(parents=True, exist_ok=True)
    return [_make_image(index, split, settings, images) for index in range(start, stop)]


def _call(task: partial[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return task()


def _make_split(split: Split, settings: SampleSettings, root: Path, workers: int) -> Iterator[dict[str, Any]]:
    total = getattr(settings, split)
    starts = range(0, total, _CHUNK)
    tasks = [partial(_make_chunk, s, min(s + _CHUNK, total), split, settings, root / "images") for s in starts]
    with progress_bar(total=total, desc=f"drawing {split}", unit="image") as bar:
        if workers == 1:
            for task in tasks:
                yield from task()
                bar.update(len(range(*task.args[:2])))
            return
        # Spawned, because a fork of a process that already runs PyTorch threads can hang.
        with multiprocessing.get_context("spawn").Pool(min(workers, len(tasks))) as pool:
            for made in pool.imap(_call, tasks):
                yield from made
                bar.update(len(made))


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_records(folder: Path, records: list[dict[str, Any]]) -> None:
    for number, start in enumerate(range(0, len(records), _RECORDS_PER_FILE)):
        _write_json(folder / f"part-{number:03d}.json", records[start : start + _RECORDS_PER_FILE])


def _write_fgovd(folder: Path, test: list[dict[str, Any]], size: int) -> None:
    """One row per region and file, with the keys of FG-OVD's files as FG-CLIP publishes them."""
    folder.mkdir(parents=True)
    for name, kind in FGOVD_FILES.items():
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            rows = ((image_id, made, box) for image_id, made in enumerate(test) for box in made["boxes"])
            for number, (image_id, made, box) in enumerate(rows):
                first = 11 * number
                row = {
                    "img_path": made["record"]["f_path"].removeprefix(PUBLISHED_PREFIX),
                    "bbox": box["bbox"],
                    "pos_expression": [box["positive"]],
                    "neg_expression": box["negatives"][name],
                    "category_id": first,
                    "neg_category_ids": list(range(first + 1, first + 11)),
                    "width": size,
                    "height": size,
                    "image_id": image_id,
                    "sent_id": number,
                    "test_type": kind,
                }
                file.write(json.dumps(row) + "\n")


def _write_instances(path: Path, test: list[dict[str, Any]], size: int) -> None:
    """COCO instances: the shapes as categories."""
    boxes = [(image_id, box) for image_id, made in enumerate(test) for box in made["boxes"]]
    content = {
        "info": {"description": "generated sample, test split"},
        "images": [
            {
                "id": image_id,
                "file_name": made["record"]["f_path"].removeprefix(PUBLISHED_PREFIX),
                "width": size,
                "height": size,
            }
            for image_id, made in enumerate(test)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": box["shape"] + 1,
                "bbox": box["bbox"],
                "area": box["area"],
                "iscrowd": 0,
            }
            for number, (image_id, box) in enumerate(boxes, 1)  # COCO's evaluation takes 0 for "unmatched"
        ],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(SHAPES)],
    }
    _write_json(path, content)


def _is_up_to_date(output: Path, settings: SampleSettings, overwrite: bool) -> bool:
    """True when ``output`` already holds this very sample; clears the way when it may be written."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    manifest = output / SETTINGS_FILE
    if not manifest.is_file():
        raise ValueError(f"{output} exists and is no generated sample (no {SETTINGS_FILE}); name an empty folder")
    found = json.loads(manifest.read_text(encoding="utf-8"))
    if not overwrite:
        if found == asdict(settings):
            return True
        raise ValueError(
            f"{output} holds a sample with settings {found}, asked for {asdict(settings)}; "
            "name another folder or pass overwrite=True (--overwrite)"
        )
    return False


def generate_sample(
    output: str | Path,
    seed: int = 0,
    train: int = 8000,
    test: int = 1000,
    image_size: int = 128,
    workers: int = 1,
    overwrite: bool = False,
) -> Path:
    """Writes a data set of rendered scenes that depends on its settings alone, not on ``workers``.

    ``train/`` and ``test/`` are in FineHARD's published layout (``jsonfiles/``, ``images/``). The test split shows and
    names only combinations of shape, color and border color that appear nowhere in the train split. ``fgovd/`` holds
    the hard, medium, easy and trivial files in FG-OVD's format over all regions of the test split, ``boxes/`` the same
    regions as COCO instances with the shapes as categories.

    Args:
        output: folder to write; an existing sample with the same settings is kept as it is.
        seed: everything random follows from it.
        train: number of training images.
        test: number of test images.
        image_size: side of the square images in pixels, a multiple of 4 from 64 to 1024.
        workers: processes. More than one needs the caller's script to be guarded by ``if __name__ == "__main__"``.
        overwrite: replace an existing sample with other settings.

    Returns:
        ``output`` as a path.

    Raises:
        ValueError: a setting is out of range, ``output`` holds something else, or another command is making it.
    """
    settings = SampleSettings(seed, train, test, image_size)
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 is needed")
    output = Path(output)
    if _is_up_to_date(output, settings, overwrite):
        return output
    with making(output):
        if not _is_up_to_date(output, settings, overwrite):  # another command may just have made it
            _make_sample(output, settings, workers)
    return output


def _make_sample(output: Path, settings: SampleSettings, workers: int) -> None:
    with replacing_folder(output) as part:
        made = {split: list(_make_split(split, settings, part / split, workers)) for split in ("train", "test")}
        for split in made:
            _write_records(part / split / "jsonfiles", [one["record"] for one in made[split]])
        _write_fgovd(part / "fgovd", made["test"], settings.image_size)
        _write_instances(part / "boxes" / "instances_test.json", made["test"], settings.image_size)
        _write_json(part / SETTINGS_FILE, asdict(settings))
