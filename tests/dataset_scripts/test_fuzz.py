"""Damaged foreign data in every reader: a right result, a counted skip or a ValueError that names the place, and no more.

The quick version runs everywhere; the whole one, more than 10,000 inputs, is marked slow. Seeds are fixed.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataset_scripts.convert import ConvertSettings, Source, convert
from dataset_scripts.convert.source import with_boxes
from dataset_scripts.curation.engine.recipe import load_recipe
from dataset_scripts.images import BadImage, check_image
from dataset_scripts.own_data import Columns, hub_source, table_source
from dataset_scripts.report import Fault, Report
from dataset_scripts.shards import parse_manifest
from dataset_scripts.streaming import load_training_data
from dataset_scripts.url_index import UrlIndex
from eval.tasks import Task, make_task
from tests.dataset_scripts.foreign_samples import FORMATS, Format, picture
from tests.dataset_scripts.mutations import mutated_bytes, mutated_json

# What costs a whole row, in the readers whose rows are each a draft.
LOST = (
    "record without a caption", "row is damaged", "row without an image", "entry is malformed", "sample without an image",
    "row cannot be read",
)  # fmt: skip
# How reasons begin that cost a record a region or less.
OF_A_REGION = ("box", "region", "expression", "score", "negative", "declared size")
WHOLE = [pytest.param(False, id="quick"), pytest.param(True, marks=pytest.mark.slow, id="whole")]


def texts_and_boxes_are_sound(record: dict[str, Any]) -> None:
    texts = [record["caption"], *record["short_captions"]]
    texts += [
        text
        for region in record["regions"]
        for text in (region["short_expr"], region["long_expr"], *region["negatives"])
    ]
    said = [text for text in texts if text is not None]
    assert said
    for text in said:
        assert text.strip()
        text.encode("utf-8")
    for region in record["regions"]:
        x1, y1, x2, y2 = region["bbox"]
        assert 0 <= x1 < x2 <= 1
        assert 0 <= y1 < y2 <= 1
        assert math.isfinite(region["score"])


def drafts_of(source: Source, report: Report) -> list[dict[str, Any]]:
    """What the source gives, through the gate as the converter puts it."""
    image, records = check_image(picture()), []
    for draft in source.drafts(report):
        if draft["caption"] is None and not draft["short_captions"]:
            report.bad("record without a caption", draft["source_id"])
            continue
        with report.entry(str(draft["source_id"])):
            json.dumps(draft)
            draft["source_id"].encode()
            records.append(with_boxes(draft, image, report))
    return records


def result_or_refusal(read: Callable[[], Any], *names: str) -> Any:
    """What `read` gives; None after a ValueError, which must name one of these. A Fault has its place by construction."""
    try:
        return read()
    except Fault:
        return None
    except ValueError as error:
        said = str(error)
    assert any(name in said for name in names), said
    return None


def outcome(read: Callable[[str], Any], *names: str) -> Any:
    """What `read` gives with ``on_bad="skip"``; ``"raise"`` must end the same way, or with a ValueError that names the place."""
    result_or_refusal(partial(read, "raise"), *names)
    return result_or_refusal(partial(read, "skip"), *names)


def read_drafts(source: Callable[[], Source], on_bad: str) -> tuple[list[dict[str, Any]], Report]:
    report = Report(on_bad)
    return drafts_of(source(), report), report


def read_shards(folder: Path, on_bad: str) -> tuple[list[dict[str, Any]], Report]:
    stream = load_training_data(folder, streaming=True, on_bad=on_bad)
    return list(stream), stream.report


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("name", list(FORMATS))
def test_foreign_formats(name: str, whole: bool, tmp_path: Path) -> None:
    form = FORMATS[name]
    for number in range(480 if whole else 12):
        dice = random.Random(f"{name} {number}")
        if isinstance(form.first, bytes) or number % 3 == 0:
            content = mutated_bytes(form.encoded(form.first), dice)
        else:
            content = mutated_json(form.first, dice)
        folder = tmp_path / str(number)
        path = form.write(folder, content)
        names = (*(Path(file).name for file in form.files), path.stem, folder.name)
        found = outcome(partial(read_drafts, partial(form.source, folder)), *names)
        if found is not None:
            records, report = found
            for record in records:
                texts_and_boxes_are_sound(record)
            if form.rows:
                lost = sum(report.problems[reason] for reason in LOST)
                assert report.kept["records read"] == len(records) + lost, (number, report)
        shutil.rmtree(folder)


def convert_form(form: Format, folder: Path, settings: ConvertSettings) -> dict[str, Any]:
    return convert(form.source(folder), folder / "out", settings)


@pytest.mark.parametrize("whole", WHOLE)
def test_conversions(whole: bool, tmp_path: Path) -> None:
    """From a damaged table to shards and back into training: records in = records out + counted."""
    form = FORMATS["json lines"]
    for number in range(150 if whole else 4):
        dice = random.Random(f"convert {number}")
        folder = tmp_path / str(number)
        path = form.write(
            folder, mutated_json(form.first, dice) if number % 3 else mutated_bytes(form.encoded(form.first), dice)
        )
        for image in range(4):
            data = picture()
            (folder / f"{image}.jpg").write_bytes(mutated_bytes(data, dice) if dice.random() < 0.2 else data)
        settings = ConvertSettings(workers=1)
        manifest = result_or_refusal(partial(convert_form, form, folder, settings), path.stem)
        if manifest is None:
            continue
        records = list(load_training_data(folder / "out", streaming=True))
        assert len(records) == manifest["totals"]["records"]
        for record in records:
            texts_and_boxes_are_sound(record)
        kept, problems = manifest["images"]["kept"], manifest["images"]["problems"]
        lost = sum(count for reason, count in problems.items() if not reason.startswith(OF_A_REGION))
        assert kept["records tried"] == len(records) + lost, manifest["images"]
        shutil.rmtree(folder)


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_images(kind: str, whole: bool) -> None:
    file = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert("RGB").save(file, kind)
    for number in range(250 if whole else 10):
        data = mutated_bytes(file.getvalue(), random.Random(f"{kind} {number}"))
        checked = None
        with contextlib.suppress(BadImage):
            checked = check_image(data)
        if checked is None:
            continue
        with Image.open(io.BytesIO(checked.data)) as image:
            image.load()
            assert image.size == (checked.width, checked.height)
            assert image.mode in ("RGB", "L")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four records as parquet and as tar."""
    form, folders = FORMATS["json lines"], {}
    for shard_format in ("parquet", "webdataset"):
        folder = tmp_path_factory.mktemp("shards")
        form.write(folder)
        for image in range(4):
            (folder / f"{image}.jpg").write_bytes(picture())
        convert(form.source(folder), folder / "out", ConvertSettings(workers=1, shard_format=shard_format))
        folders[shard_format] = folder / "out"
    return folders


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
@pytest.mark.parametrize("listed", [True, False], ids=["manifest", "no manifest"])
def test_shards(kind: str, listed: bool, whole: bool, shards: dict[str, Path], tmp_path: Path) -> None:
    originals = {record["source_id"]: record for record in load_training_data(shards[kind], streaming=True)}
    for number in range(200 if whole else 6):
        folder = tmp_path / str(number)
        shutil.copytree(shards[kind], folder)
        (path,) = [*folder.glob("train-0*")]
        damaged = mutated_bytes(path.read_bytes(), random.Random(f"{kind} {listed} {number}"))
        same = damaged == path.read_bytes()
        path.write_bytes(damaged)
        if not listed:
            (folder / "train-manifest.json").unlink()
        found = outcome(partial(read_shards, folder), path.name, folder.name)
        if found is not None:
            records, report = found
            for record in records:
                texts_and_boxes_are_sound(record)
            if listed and not same:
                assert report.problems, number
            if not report.problems:
                assert {record["source_id"] for record in records} <= set(originals), number
        shutil.rmtree(folder)


def task_files(form: str) -> dict[str, Any]:
    return FORMATS[form].files


_FGOVD = [
    {
        "img_path": f"{n}.jpg",
        "bbox": [2, 2, 10, 8],
        "width": 40,
        "height": 20,
        "pos_expression": ["a red cup"],
        "neg_expression": ["a blue cup"],
    }
    for n in range(4)
]
_SUGAR = {str(n): {"filename": f"{n}.jpg", "caption": "a red cup", "negative_caption": "a blue cup"} for n in range(4)}
_FINEHARD = [
    {
        "f_path": f"{n}.jpg", "caption": "A dog runs.", "short_caption": "a dog",
        "bbox_info": [{"bbox": [0.1, 0.1, 0.5, 0.5, 0.9], "short_expr": "dog", "long_expr": "a dog", "flag_short_neg": 1, "short_expr_negs": {"0": "cat"}}],
    }
    for n in range(4)
]  # fmt: skip
# task → options, the file's name, its content, further files
TASK_FILES: dict[str, tuple[dict[str, Any], str, Any, dict[str, Any]]] = {
    "boxes": ({"annotations": "i.json", "images": "images"}, "i.json", task_files("coco instances")["i.json"], {}),
    "lvis_boxes": ({"annotations": "l.json", "images": "images"}, "l.json", task_files("lvis")["l.json"], {}),
    "openimages_boxes": (
        {"annotations": "b.csv", "classes": "c.csv", "images": "images"}, "b.csv", task_files("open images")["b.csv"],
        {"c.csv": task_files("open images")["c.csv"]},
    ),
    "coco_retrieval": ({"annotations": "c.json", "images": "images"}, "c.json", task_files("coco captions")["c.json"], {}),
    "flickr30k": ({"annotations": "k.json", "images": "images"}, "k.json", task_files("karpathy")["k.json"], {}),
    "sharegpt4v": ({"annotations": "s.json", "images": "images"}, "s.json", task_files("sharegpt4v")["s.json"], {}),
    "dci": ({"annotations": "d", "images": "images"}, "d/a.json", task_files("dci")["d/a.json"], {}),
    "fgovd": ({"annotations": ".", "images": "images", "subsets": ("hard",)}, "h_attributes_llava.jsonl", _FGOVD, {}),
    "sugarcrepe": ({"annotations": ".", "images": "images", "subsets": ("swap_att",)}, "swap_att.json", _SUGAR, {}),
    "phrases": ({}, "jsonfiles/p.json", _FINEHARD, {}),
    "negatives": ({}, "jsonfiles/p.json", _FINEHARD, {}),
    "retrieval": ({}, "jsonfiles/p.json", _FINEHARD, {}),
}  # fmt: skip


def load_task(task: Task) -> None:
    """Everything that a run does before it embeds."""
    data = task.load()
    task.check(data)
    task.images_of(data)


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("name", list(TASK_FILES))
def test_task_files(name: str, whole: bool, tmp_path: Path) -> None:
    options, file, content, others = TASK_FILES[name]
    (tmp_path / "images").mkdir()
    for image in range(4):
        (tmp_path / f"images/{image}.jpg").write_bytes(picture())
    for other, data in others.items():
        (tmp_path / other).write_bytes(data)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)

    def encoded(value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        if path.suffix == ".jsonl" and isinstance(value, list):
            return "\n".join(map(json.dumps, value)).encode()
        return json.dumps(value).encode()

    for number in range(200 if whole else 8):
        dice = random.Random(f"{name} {number}")
        mutate_bytes = isinstance(content, bytes) or number % 3 == 0
        path.write_bytes(
            mutated_bytes(encoded(content), dice) if mutate_bytes else encoded(mutated_json(content, dice))
        )
        result_or_refusal(
            partial(load_task, make_task(name, {"data": tmp_path, **options})), f"task {name}", str(path)
        )


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("recipe", ["open", "finehard", "text"])
def test_recipes(recipe: str, whole: bool, tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / f"dataset_scripts/curation/recipes/{recipe}.yaml"
    path = tmp_path / "mine.yaml"
    for number in range(100 if whole else 8):
        path.write_bytes(mutated_bytes(source.read_bytes(), random.Random(f"{recipe} {number}")))
        result_or_refusal(partial(load_recipe, path), "mine.yaml")


@pytest.mark.parametrize("whole", WHOLE)
def test_manifests(whole: bool, shards: dict[str, Path]) -> None:
    data = (shards["parquet"] / "train-manifest.json").read_bytes()
    for number in range(300 if whole else 10):
        dice = random.Random(f"manifest {number}")
        damaged = (
            mutated_bytes(data, dice) if number % 2 else json.dumps(mutated_json(json.loads(data), dice)).encode()
        )
        manifest = result_or_refusal(partial(parse_manifest, damaged, "train-manifest.json"), "train-manifest.json")
        assert manifest is None or all(shard["records"] >= 0 for shard in manifest["shards"])


@pytest.mark.parametrize("whole", WHOLE)
def test_lists_of_urls(whole: bool, tmp_path: Path) -> None:
    pairs = {f"http://x/{n}.jpg": f"coyo_image_0/00000/{n:09d}" for n in range(5)}
    table = pa.table({"url": list(pairs)})
    for number in range(150 if whole else 6):
        dice = random.Random(f"urls {number}")
        root = tmp_path / str(number)
        (root / "url2key_jsons").mkdir(parents=True)
        (root / "coyo_image_0").mkdir()
        (root / "url2key_jsons/url2key_coyo_image_0.json").write_bytes(mutated_bytes(json.dumps(pairs).encode(), dice))
        file = io.BytesIO()
        pq.write_table(table, file)
        (root / "coyo_image_0/00000.parquet").write_bytes(
            mutated_bytes(file.getvalue(), dice) if number % 2 else file.getvalue()
        )
        report = Report()
        index = UrlIndex(root / "urls.sqlite").build(str(root), report)
        assert len(index) == 5 or report.problems or report.kept["URLs with a key"] >= len(index)
        shutil.rmtree(root)


@pytest.mark.parametrize("whole", WHOLE)
def test_hub_sets(whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    columns = Columns(caption="text", regions="objects", box_format="xywh")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = pa.array([{"bytes": picture(), "path": None}] * 4, kind)
    objects = [{"bbox": [[4, 2, 20, 10]], "category": ["dog"]}] * 4
    table = pa.table({"image": images, "text": ["a dog", "b", "café", None], "objects": objects})
    file = io.BytesIO()
    pq.write_table(table, file, compression="none", use_dictionary=False)
    for number in range(60 if whole else 2):
        folder = tmp_path / f"set{number}"
        folder.mkdir()
        (folder / "train.parquet").write_bytes(mutated_bytes(file.getvalue(), random.Random(f"hub {number}")))
        found = outcome(partial(read_drafts, partial(hub_source, str(folder), columns)), folder.name, "train[")
        if found is not None:
            records, report = found
            for record in records:
                texts_and_boxes_are_sound(record)
            lost = sum(report.problems[reason] for reason in LOST)
            assert report.kept["records read"] == len(records) + lost


@pytest.mark.parametrize("whole", WHOLE)
def test_time_is_linear_in_hostile_texts(whole: bool, tmp_path: Path) -> None:
    """Texts that a careless regular expression or a restarted parser reads again and again; a second read is compared."""
    size = 400_000 if whole else 40_000
    hostile = [
        b'{"a": "' + b'\\"' * size,
        b'{"a": "x' + b"{" * size,
        b"[" * size,
        b'{"f_path":' * (size // 10),
        b'"' * size,
    ]
    for number, data in enumerate(hostile):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"{number}\\.jsonl"):
            table_source(path, str(tmp_path), Columns())
