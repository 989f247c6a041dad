"""Tasks read by `datasets.load_dataset`: here parquet folders, which it reads like a Hub repository."""

from __future__ import annotations

import io
from collections.abc import Callable

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngImageFile

from dataset_scripts.schema import FEATURES
from eval import evaluate_model
from eval.scoring import class_ranks
from eval.tasks import make_task
from tests.eval.color_model import RGB


@pytest.fixture
def publish(tmp_path, monkeypatch) -> Callable[[list[dict], Features], str]:
    """publish(rows, features) → a folder that load_dataset reads; its cache stays in tmp_path."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def write(rows: list[dict], features: Features, name: str = "repository") -> str:
        folder = tmp_path / name
        (folder / "data").mkdir(parents=True)
        Dataset.from_list(rows, features=features).to_parquet(folder / "data/test-00000-of-00001.parquet")
        return str(folder)

    return write


def halves(left: str, right: str) -> PILImage.Image:
    image = PILImage.new("RGB", (64, 64), RGB[left])
    image.paste(RGB[right], (32, 0, 64, 64))
    return image


def run(model, task: str, **options):
    return evaluate_model(model, tasks={task: options}, progress=False)[task]


def test_fgovd_encodes_an_image_of_several_rows_once(publish, color_model):
    features = Features({
        "image": Image(), "image_id": Value("int64"), "bbox": List(Value("float32")), "pos_expression": Value("string"),
        "neg_expression": List(Value("string")), "subset": Value("string"),
    })  # fmt: skip
    image = halves("red", "blue")
    rows = [
        {"image": image, "image_id": 7, "bbox": box, "pos_expression": f"a {true} cup", "neg_expression": [f"a {false} cup"], "subset": subset}
        for box, true, false, subset in (
            ([0, 0, 32, 64], "red", "blue", "hard"), ([32, 0, 32, 64], "blue", "red", "hard"), ([0, 0, 32, 64], "blue", "red", "easy")
        )
    ]  # fmt: skip
    hub = publish(rows, features)
    result = run(color_model, "fgovd", hub=hub, subsets=("hard", "easy"))
    assert (result.scores["hard"].value, result.scores["hard"].count, result.scores["easy"].value) == (1.0, 2, 0.0)
    assert color_model.images_encoded == 1


def test_boxes_take_their_classes_from_the_features(publish, color_model):
    objects = {
        "bbox": List(List(Value("float32"), length=4)),
        "category": List(ClassLabel(names=["blue", "red", "green"])),
    }
    features = Features({"image": Image(), "objects": objects})
    rows = [
        {
            "image": halves("red", "blue"),
            "objects": {"bbox": [[0, 0, 32, 64], [32, 0, 32, 64], [0, 0, 0, 9]], "category": [1, 2, 0]},
        }
    ]
    result = run(color_model, "coco_boxes", hub=publish(rows, features))
    assert (result.scores["top1"].value, result.scores["top1"].count) == (0.5, 2)
    assert result.data["boxes_skipped_empty"] == 1


@pytest.mark.parametrize("column", ["caption", "captions"])
def test_retrieval_reads_one_or_several_captions(publish, color_model, column):
    kind = Value("string") if column == "caption" else List(Value("string"))
    rows = [
        {
            "image": halves(color, color),
            column: f"all {color}" if column == "caption" else [f"all {color}", color],
        }
        for color in ("red", "blue", "green")
    ]
    result = run(color_model, "flickr30k", hub=publish(rows, Features({"image": Image(), column: kind})))
    assert result.scores["i2t_R@1"].value == 1.0
    assert result.data["captions"] == (3 if column == "caption" else 6)
    with pytest.raises(
        ValueError, match=r"has the columns image, captions?; label is missing. It needs image and label"
    ):
        run(color_model, "imagenet", hub=result.settings["options"]["hub"])


def test_imagenet_and_sugarcrepe(publish, color_model, tmp_path):
    (tmp_path / "names.txt").write_text("red\nblue\n")
    rows = [
        {
            "image": halves(color, color),
            "label": label,
            "caption": f"{color} sky",
            "negative_caption": "green sky",
            "subset": "swap_att",
        }
        for color, label in (("red", 0), ("blue", 1), ("blue", 0))
    ]
    kinds = {
        "label": Value("int64"),
        "caption": Value("string"),
        "negative_caption": Value("string"),
        "subset": Value("string"),
    }
    hub = publish(rows, Features({"image": Image(), **kinds}))
    result = run(color_model, "imagenet", hub=hub, names=str(tmp_path / "names.txt"))
    assert result.scores["top1"].value == pytest.approx(2 / 3)
    assert run(color_model, "sugarcrepe", hub=hub, subsets=("swap_att",)).scores["swap_att"].value == 1.0


@pytest.mark.parametrize("task", ["flickr30k", "retrieval"])
def test_a_picture_counts_once_however_its_rows_are_laid_out(publish, color_model, task):
    """Each has several captions: in as many rows as captions, or in one."""
    captions = {color: [f"all {color}", f"{color} above {color}", color] for color in ("red", "blue", "green")}
    rows = [
        (color, [text])
        for texts in zip(*captions.values(), strict=True)
        for color, text in zip(captions, texts, strict=True)
    ]
    layouts = {"rows": rows, "lists": list(captions.items())}
    results = {}
    for layout, entries in layouts.items():
        if task == "flickr30k":
            columns, features = [{"captions": texts} for _, texts in entries], {"captions": List(Value("string"))}
        else:
            blank = {"caption": None, "regions": [], "source_id": "x"}
            columns, features = [{"short_captions": texts, **blank} for _, texts in entries], dict(FEATURES)
        images = [{"image": halves(color, color), **own} for (color, _), own in zip(entries, columns, strict=True)]
        hub = publish(images, Features(features | {"image": Image()}), layout)
        options = {"captions": ("short",)} if task == "retrieval" else {}
        results[layout] = run(color_model, task, hub=hub, **options)
    one, other = results.values()
    assert one.scores == other.scores
    prefix = "short_" if task == "retrieval" else ""
    assert (one.data[f"{prefix}images"], one.data[f"{prefix}captions"], one.data[f"{prefix}rows_joined"]) == (3, 9, 6)
    assert other.data[f"{prefix}rows_joined"] == 0


def test_records_in_this_projects_schema(publish, color_model):
    region = {"score": 1.0, "long_expr": None}
    rows = [
        {
            "image": halves("red", "blue"), "caption": "red beside blue", "short_captions": ["red"], "source_id": "1",
            "regions": [
                {**region, "bbox": [0, 0, 0.5, 1], "short_expr": "a red half", "negatives": ["a green half", "a blue half"]},
                {**region, "bbox": [0.5, 0, 1, 1], "short_expr": "a blue half", "negatives": []},
            ],
        }
    ]  # fmt: skip
    hub = publish(rows, FEATURES)
    assert run(color_model, "negatives", hub=hub).scores["top1"].value == 1.0
    assert run(color_model, "phrases", hub=hub).scores["top1"].count == 2


def test_equal_classes_tie_exactly():
    generator = torch.Generator().manual_seed(0)
    classes = torch.nn.functional.normalize(torch.randn(999, 512, generator=generator), dim=-1)
    classes = torch.cat([classes, classes[:1]])  # the last class has the first one's name
    queries = torch.nn.functional.normalize(torch.randn(64, 512, generator=generator), dim=-1)
    labels = np.array([0, 999] * 32)
    better, tied = class_ranks(queries, classes, labels)
    assert (tied == 1).all()
    expected = (
        (queries.double() @ classes.double().T) > (queries.double() @ classes[0].double())[:, None] + 1e-9
    ).sum(1)
    assert np.abs(better - expected.numpy()).max() <= 1  # float32 may swap neighbors


FGOVD = {
    "image_id": Value("int64"), "bbox": List(Value("float32")), "pos_expression": Value("string"),
    "neg_expression": List(Value("string")), "subset": Value("string"),
}  # fmt: skip
OBJECTS = {
    "bbox": List(List(Value("float32"), length=4)),
    "category": List(ClassLabel(names=["blue", "red", "green"])),
}


def png(image: PILImage.Image, cut: int = 0) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = buffer.getvalue()
    return {"bytes": data[: len(data) - cut], "path": None}


def fgovd_row(image, number: int, **changes) -> dict:
    row = {"image": image, "image_id": number, "bbox": [0, 0, 32, 64], "pos_expression": "a red cup", "neg_expression": ["a blue cup"], "subset": "hard"}  # fmt: skip
    return row | changes


@pytest.mark.parametrize("broken", [{"bytes": b"no image", "path": None}, png(halves("red", "blue"), cut=60), None])
def test_broken_images_of_the_hub_are_left_out_and_counted(publish, color_model, broken):
    whole = png(halves("red", "blue"))
    rows = [fgovd_row(whole, 1), fgovd_row(broken, 2), fgovd_row(broken, 2, bbox=[1, 2, 3, 4])]
    hub = publish(rows, Features({"image": Image(), **FGOVD}))
    options = {"hub": hub, "subsets": ("hard",)}
    with pytest.raises(ValueError, match=r"row 1 of the data set .* allow_missing"):
        run(color_model, "fgovd", **options)
    result = evaluate_model(color_model, tasks={"fgovd": options}, progress=False, allow_missing=True)["fgovd"]
    assert (result.scores["hard"].count, result.scores["hard"].value, result.data["rows_left_out"]) == (1, 1.0, 2)


@pytest.mark.parametrize("broken", [{"bytes": b"no image", "path": None}, png(halves("red", "blue"), cut=60)])
def test_broken_images_with_boxes_of_the_hub_are_left_out(publish, color_model, broken):
    objects = {"bbox": [[0, 0, 32, 64], [32, 0, 32, 64]], "category": [1, 0]}
    rows = [{"image": image, "objects": objects} for image in (png(halves("red", "blue")), broken)]
    options = {"hub": publish(rows, Features({"image": Image(), "objects": OBJECTS}))}
    with pytest.raises(ValueError, match=r"row 1 of the data set cannot be decoded"):
        run(color_model, "coco_boxes", **options)
    result = evaluate_model(color_model, tasks={"coco_boxes": options}, progress=False, allow_missing=True)
    assert (result["coco_boxes"].scores["top1"].count, result["coco_boxes"].scores["top1"].value) == (2, 1.0)


def test_reading_annotations_decodes_nothing(publish, monkeypatch):
    rows = [fgovd_row(png(halves("red", "blue")), 1) | {"objects": {"bbox": [[0, 0, 9, 9]], "category": [1]}}]
    hub = publish(rows, Features({"image": Image(), "objects": OBJECTS, **FGOVD}))

    def refuse(*_):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(PILImage.Image, "load", refuse)
    monkeypatch.setattr(PngImageFile, "load", refuse)
    loaded = make_task("fgovd", {"hub": hub, "subsets": ("hard",)}).load()
    assert loaded["hard"][0].size == (64.0, 64.0)
    assert make_task("coco_boxes", {"hub": hub}).load().boxes[0].size == (64.0, 64.0)


def test_columns_of_sizes_are_used(publish):
    size = {"width": Value("int64"), "height": Value("int64")}
    rows = [fgovd_row(None, number, width=640, height=480) for number in (1, 2)]
    hub = publish(rows, Features({"image": Image(), **FGOVD, **size}))
    loaded = make_task("fgovd", {"hub": hub, "subsets": ("hard",)}).load()["hard"]
    assert [row.size for row in loaded] == [(640.0, 480.0)] * 2


def test_rows_without_an_image_id_keep_their_own_images(publish, color_model):
    rows = [fgovd_row(png(halves(*colors)), None) for colors in (("red", "blue"), ("blue", "red"))]
    result = run(color_model, "fgovd", hub=publish(rows, Features({"image": Image(), **FGOVD})), subsets=("hard",))
    assert result.scores["hard"].value == 0.5


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("fgovd", {}, r"no row of the subsets medium, easy, trivial in .*repository"),
        ("sugarcrepe", {"subsets": ("swap_att",)}, r"no row of the subset swap_att in .*repository"),
        ("flickr30k", {}, r"repository, row 0: malformed \(caption must be a text; got None\)"),
        ("flickr30k", {"split": "train"}, r"cannot be loaded \(hub_config '', split 'train'\)"),
        ("imagenet", {}, r"has 2 classes, but OpenAI's class names .* missing, none unexpected"),
        ("imagenet", {"names": "NAMES"}, r"has 2 classes \(n01440764, n01443537 …\), but there are 3 class names"),
        (
            "coco_boxes",
            {},
            r"repository, row 0: malformed \(parallel lists must be equally long; it holds 1 bbox, 2 category",
        ),
    ],
)
def test_what_a_data_set_lacks_is_said(publish, color_model, tmp_path, task, options, message):
    if "names" in options:
        (tmp_path / "names.txt").write_text("\ufeffone\ntwo\nthree\n", encoding="utf-8")
        options = {"names": str(tmp_path / "names.txt")}
    more = {"caption": Value("string"), "negative_caption": Value("string"), "label": ClassLabel(names=["n01440764", "n01443537"])}  # fmt: skip
    row = fgovd_row(png(halves("red", "blue")), 1, caption=None, negative_caption="x", label=0)
    rows = [row | {"objects": {"bbox": [[0, 0, 9, 9]], "category": [1, 2]}}]
    hub = publish(rows, Features({"image": Image(), "objects": OBJECTS, **FGOVD, **more}))
    with pytest.raises(ValueError, match=message):
        run(color_model, task, hub=hub, **options)


def test_a_data_set_that_is_not_there_is_named(tmp_path, monkeypatch, color_model):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"task flickr30k: the data set '.*nothing' cannot be loaded"):
        run(color_model, "flickr30k", hub=str(tmp_path / "nothing"))


def test_a_column_of_names_is_no_column_of_images(publish, color_model):
    hub = publish(
        [{"image": "a.jpg", "caption": "x"}], Features({"image": Value("string"), "caption": Value("string")})
    )
    with pytest.raises(ValueError, match=r"the column image of .* must be of the type Image"):
        run(color_model, "flickr30k", hub=hub)
