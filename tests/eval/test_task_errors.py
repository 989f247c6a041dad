"""What is wrong in a file is said as a ValueError with the file and the place in it, never as a traceback."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.eval.task_runs import run, write_json

CAPTIONS = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [{"image_id": 1, "caption": "A red wall."}, {"image_id": 2, "caption": "The blue sky."}],
}


def complaint(model, task: str, **options) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        run(model, task, **options)
    assert type(caught.value) is ValueError
    return str(caught.value)


def test_captions_option_that_names_another_file(tmp_path, color_model):
    folder = tmp_path / "coco/annotations"
    (tmp_path / "coco/val2017").mkdir(parents=True)
    instances = {
        "images": CAPTIONS["images"],
        "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}],
        "categories": [],
    }
    write_json(folder / "instances_val2017.json", instances)
    said = complaint(color_model, "coco_retrieval", data=tmp_path, annotations=folder / "instances_val2017.json")
    assert "entry is malformed in instances_val2017.json, annotations[0]: KeyError: 'caption'" in said
    write_json(folder / "captions_val2017.json", CAPTIONS | {"annotations": [{"image_id": 1, "caption": None}]})
    said = complaint(color_model, "coco_retrieval", data=tmp_path)
    assert "captions_val2017.json, annotations[0]" in said
    assert "caption must be a text; got None" in said
    write_json(folder / "captions_val2017.json", [CAPTIONS])
    assert "has no list images" in complaint(color_model, "coco_retrieval", data=tmp_path)


def test_open_images_class_list_of_one_column(tmp_path, color_model):
    root = tmp_path / "openimages"
    (root / "validation").mkdir(parents=True)
    (root / "validation-annotations-bbox.csv").write_text("ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n")
    (root / "class-descriptions-boxable.csv").write_text("/m/1,Red\n/m/2\n")
    said = complaint(color_model, "openimages_boxes", data=tmp_path)
    assert "line needs a class id and a name in class-descriptions-boxable.csv, line 2" in said
    (root / "class-descriptions-boxable.csv").write_bytes(b"/m/1,Red\n/m/2,Cr\xe8me\n")
    said = complaint(color_model, "openimages_boxes", data=tmp_path)
    assert "class-descriptions-boxable.csv, line 2" in said
    (root / "class-descriptions-boxable.csv").write_text("/m/1,Red\n/m/2,Blue\n")
    lines = ["ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf", "a,/m/1,0,1,0,1,0", "../b,/m/1,0,1,0,1,0"]
    (root / "validation-annotations-bbox.csv").write_text("\n".join(lines))
    said = complaint(color_model, "openimages_boxes", data=tmp_path)
    assert "validation-annotations-bbox.csv, line 3" in said
    assert "could leave its root" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no row of the subset swap_att in its files"),
        ([], "swap_att.json: is not a SugarCrepe file (AttributeError"),
        ({"0": {"filename": "a.jpg", "caption": "A red wall."}}, "swap_att.json, entry 0: malformed (KeyError: 'negative_caption')"),
        ({"7": {"filename": "a.jpg", "caption": "", "negative_caption": "x"}}, "swap_att.json, entry 7: malformed (caption must be a text"),
    ],
)  # fmt: skip
def test_sugarcrepe_files(tmp_path, color_model, content, message):
    (tmp_path / "coco/val2017").mkdir(parents=True)
    write_json(tmp_path / "sugarcrepe/swap_att.json", content)
    assert message in complaint(color_model, "sugarcrepe", data=tmp_path, subsets=("swap_att",))


RECORD = {
    "f_path": "a.jpg",
    "caption": "red",
    "short_caption": None,
    "bbox_info": [{"bbox": [0, 0, 1, 1], "short_expr": "a red wall"}],
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"0": RECORD}, "record without an image in part.json[0]"),
        ([RECORD, "text"], "record is no object in part.json[1]"),
        ([RECORD, RECORD | {"f_path": "../x.jpg"}], "path leaves its root in part.json[1]"),
        ([RECORD | {"f_path": None}], "record without an image in part.json[0]"),
        ([RECORD | {"bbox_info": None}], "regions are null in part.json[0] a.jpg"),
        ([RECORD | {"bbox_info": [{"bbox": [0, 1]}]}], "box is no list of four numbers in part.json[0] a.jpg region 0: '[0, 1]'"),
        ([RECORD | {"bbox_info": [{"bbox": [0, 0, 1, 1]}]}], "region without an expression in part.json[0] a.jpg region 0"),
        ([RECORD | {"bbox_info": [{"bbox": [0, 0, 1, 1], "short_expr": "x", "short_expr_negs": {"0": 5}}]}], "negative is no text in part.json[0] a.jpg region 0: '5'"),
        ([RECORD | {"caption": ["red"]}], "caption is no text in part.json[0] a.jpg"),
    ],
)  # fmt: skip
def test_records(tmp_path, color_model, content, message):
    (tmp_path / "images").mkdir()
    write_json(tmp_path / "jsonfiles/part.json", content)
    assert message in complaint(color_model, "phrases", data=tmp_path)


def test_records_may_hold_texts_that_say_nothing(tmp_path, paint, color_model):
    """They are missing, as in training."""
    paint(tmp_path / "images/a.jpg", "white", ("red", (0, 0, 32, 64)), ("blue", (32, 0, 64, 64)))
    box = {"flag_short_neg": 1, "short_expr_negs": {"0": " ", "1": "a green half"}}
    regions = [
        {"bbox": [0, 0, 0.5, 1], "short_expr": "a red half", "long_expr": " ", **box},
        {"bbox": [0.5, 0, 1, 1], "short_expr": "a blue half", "long_expr": "", **box},
    ]
    write_json(tmp_path / "jsonfiles/part.json", [RECORD | {"bbox_info": regions}])
    assert run(color_model, "phrases", data=tmp_path).scores["top1"].value == 1.0
    negatives = run(color_model, "negatives", data=tmp_path)
    assert (negatives.scores["top1"].value, negatives.scores["top1"].count) == (1.0, 2)
    assert negatives.data["faults: negative is missing"] == 2


def test_records_that_are_not_utf8(tmp_path, color_model):
    (tmp_path / "images").mkdir()
    write_json(tmp_path / "jsonfiles/part.json", [RECORD])
    file = tmp_path / "jsonfiles/part.json"
    file.write_bytes(file.read_bytes().replace(b"red", b"cr\xe8me"))
    assert "caption has broken encoding in part.json[0] a.jpg" in complaint(color_model, "phrases", data=tmp_path)


def instances(**annotation) -> dict:
    good = {"image_id": 1, "bbox": [0, 0, 9, 9], "category_id": 1}
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 64}],
        "annotations": [good, good | annotation],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (instances(bbox=[1, 2, 3]), "instances_test.json, annotations[1]: malformed (bbox (x, y, width, height) must be 4 numbers"),
        (instances(bbox="0 0 9 9"), "instances_test.json, annotations[1]: malformed (bbox"),
        (instances(category_id=9), "unknown category in instances_test.json, annotations[1]: '9'"),
        (instances() | {"categories": [{"id": 1, "name": None}]}, "instances_test.json, categories[0]: name must be a text; got None"),
        (instances() | {"images": [{"id": 1, "file_name": "/x.jpg", "width": 1, "height": 1}]}, "instances_test.json, images[0]: malformed (UnsafePath: path '/x.jpg' could leave its root"),
        (instances() | {"categories": [{"id": 1, "name": "red"}]}, "task boxes: needs at least two classes"),
    ],
)  # fmt: skip
def test_instances(tmp_path, paint, color_model, content, message):
    paint(tmp_path / "images/a.jpg", "red")
    write_json(tmp_path / "boxes/instances_test.json", content)
    assert message in complaint(color_model, "boxes", data=tmp_path)


@pytest.mark.parametrize("task", ["flickr30k", "sharegpt4v", "dci"])
def test_caption_files(tmp_path, color_model, task):
    entries = {
        "flickr30k": {"images": [{"split": "test", "filename": "a.jpg", "sentences": [{"raw": 3}]}]},
        "sharegpt4v": [{"image": "a.jpg", "conversations": [{}, {"value": ""}]}],
        "dci": {"image": "a.jpg", "short_caption": None, "extra_caption": None},
    }
    files = {
        "flickr30k": ("flickr30k/dataset_flickr30k.json", "flickr30k/flickr30k-images", "images[0]"),
        "sharegpt4v": ("sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json", "sam", "1107.json[0]"),
        "dci": ("densely_captioned_images/annotations/a.json", "densely_captioned_images/photos", "a.json"),
    }
    file, images, place = files[task]
    (tmp_path / images).mkdir(parents=True)
    write_json(tmp_path / file, entries[task])
    options = {"caption": "short"} if task == "dci" else {}
    said = complaint(color_model, task, data=tmp_path, **options)
    assert file.rpartition("/")[2] in said
    assert place in said
    assert "must be a text" in said


def test_class_names_and_templates_that_are_not_utf8(tmp_path, color_model):
    (tmp_path / "imagenet/val/a").mkdir(parents=True)
    names = tmp_path / "names.txt"
    names.write_bytes(b"red\ncr\xe8me\n")
    assert "names.txt, line 2 is not UTF-8" in complaint(color_model, "imagenet", data=tmp_path, names=str(names))


def test_own_images_are_turned_and_benchmarks_are_not(tmp_path, paint, color_model):
    """A phone's photograph, stored sideways: its records speak of the upright picture."""
    path = paint(tmp_path / "images/a.jpg", "white", ("red", (0, 0, 32, 64)), ("blue", (32, 0, 64, 64)))
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90° clockwise, left is above: red above, blue below
        image.save(path, exif=exif, quality=100, subsampling=0)
    regions = [
        {"bbox": [0, 0, 1, 0.5], "short_expr": "a red half"},
        {"bbox": [0, 0.5, 1, 1], "short_expr": "a blue half"},
    ]
    write_json(tmp_path / "jsonfiles/part.json", [RECORD | {"bbox_info": regions}])
    assert run(color_model, "phrases", data=tmp_path).scores["top1"].value == 1.0
    (tmp_path / "fgovd").mkdir()
    row = {"img_path": "a.jpg", "bbox": [0, 0, 32, 64], "width": 64, "height": 64, "pos_expression": "a red half", "neg_expression": ["a blue half"]}  # fmt: skip
    (tmp_path / "fgovd/h_attributes_llava.jsonl").write_text(json.dumps(row))
    result = run(color_model, "fgovd", data=tmp_path, subsets=("hard",))
    assert (result.scores["hard"].value, result.scores["hard"].control) == (1.0, None)
