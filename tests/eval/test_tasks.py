"""Every task on a small data set in its real file format, with answers worked out by hand for a model that sees colors."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

from eval.prompts import imagenet_names, imagenet_wnids
from eval.tasks import TASKS, make_task
from tests.eval.task_runs import run, values, write_json


def coco_content(name: str, **image) -> dict:
    """Three boxes: red and blue are what they are called, the third is called green but is red. One crowd, one empty."""
    boxes = [([0, 0, 20, 20], 3), ([20, 0, 44, 64], 7), ([0, 32, 20, 32], 9), ([0, 0, 64, 64], 3), ([5, 5, 0, 4], 3)]
    return {
        "images": [{"id": 11, "file_name": name, "width": 64, "height": 64, **image}],
        "annotations": [
            {"id": i, "image_id": 11, "bbox": box, "category_id": category, "iscrowd": int(i == 3)}
            for i, (box, category) in enumerate(boxes)
        ],
        "categories": [
            {"id": 7, "name": "blue"},
            {"id": 3, "name": "red"},
            {"id": 9, "name": "green"},
            {"id": 12, "name": "yellow"},
        ],
    }


def paint_boxes(paint, path):
    return paint(path, "white", ("red", (0, 0, 20, 64)), ("blue", (20, 0, 64, 64)))


def check_boxes(result):
    assert result.scores["top1"].value == pytest.approx(2 / 3)
    assert result.scores["top1"].chance == 1 / 4
    assert result.scores["top1_class_mean"].value == pytest.approx(2 / 3)  # red 1/1, blue 1/1, green 0/1
    assert result.data["boxes"] == 3


def test_boxes_and_coco_boxes(tmp_path, paint, color_model):
    paint_boxes(paint, tmp_path / "coco/val2017/x.png")
    write_json(tmp_path / "coco/annotations/instances_val2017.json", coco_content("x.png"))
    result = run(color_model, "coco_boxes", data=tmp_path)
    check_boxes(result)
    assert (result.data["boxes_skipped_crowd"], result.data["boxes_skipped_empty"]) == (1, 1)
    assert result.breakdown["small"]["top1"].count == 2  # 400 and 640 pixels
    assert result.breakdown["medium"]["top1"].count == 1  # 2,816 pixels
    assert result.settings["templates"] == "openai80 (80)"
    assert result.settings["scores_left_out"] == "top5 (4 classes)"
    assert "annotation's area" in result.settings["box_sizes"]
    same = run(
        color_model,
        "boxes",
        data=tmp_path,
        annotations="coco/annotations/instances_val2017.json",
        images="coco/val2017",
    )
    check_boxes(same)


def test_lvis_boxes_find_images_by_coco_url(tmp_path, paint, color_model):
    paint_boxes(paint, tmp_path / "coco/train2017/000000000001.png")
    content = coco_content("unused", coco_url="http://images.cocodataset.org/train2017/000000000001.png")
    del content["images"][0]["file_name"]
    write_json(tmp_path / "lvis/lvis_v1_val.json", content)
    check_boxes(run(color_model, "lvis_boxes", data=tmp_path, templates="openai7"))


def test_openimages_boxes(tmp_path, paint, color_model):
    root = tmp_path / "openimages"
    paint_boxes(paint, root / "validation/abc.jpg")
    names = {"/m/1": "Red", "/m/2": "Blue", "/m/3": "Green", "/m/4": "Yellow"}
    with (root / "class-descriptions-boxable.csv").open("w", newline="") as file:
        csv.writer(file).writerows(names.items())
    header = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    )
    rows = [
        ("/m/1", 0, 20 / 64, 0, 20 / 64, 0),
        ("/m/2", 20 / 64, 1, 0, 1, 0),
        ("/m/3", 0, 20 / 64, 0.5, 1, 0),
        ("/m/4", 0, 1, 0, 1, 1),
    ]
    lines = [f"abc,x,{m},1,{x1},{x2},{y1},{y2},0,0,{group},0,0" for m, x1, x2, y1, y2, group in rows]
    (root / "validation-annotations-bbox.csv").write_text("\n".join([header, *lines]) + "\n")
    result = run(color_model, "openimages_boxes", data=tmp_path, templates="plain")
    check_boxes(result)
    assert result.data["boxes_skipped_group"] == 1
    sizes = {name: scores["top1"].count for name, scores in result.breakdown.items()}
    assert sizes == {"large": 3}  # 31, 69 and 16 % of the image
    assert "of the image" in result.settings["box_sizes"]
    assert result.settings["templates"] == "plain (1)"
    (root / "class-descriptions-boxable.csv").write_text("/m/1,Red\n")
    with pytest.raises(ValueError, match=r"line 3: the class '/m/2' is not in the class list"):
        run(color_model, "openimages_boxes", data=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"].append({"id": 99, "name": "red"}), "stand for several classes"),
        (lambda c: c["categories"].pop(0), r"annotation of an unknown category in .*annotations\[1\]: '7'"),
        (lambda c: c["images"].clear(), r"annotation of an image that is not listed in .*annotations\[0\]: '11'"),
        (lambda c: c.pop("annotations"), "has no list annotations"),
    ],
)
def test_wrong_class_lists_and_cut_files_are_errors(tmp_path, paint, color_model, change, message):
    paint_boxes(paint, tmp_path / "coco/val2017/x.png")
    content = coco_content("x.png")
    change(content)
    write_json(tmp_path / "coco/annotations/instances_val2017.json", content)
    with pytest.raises(ValueError, match=message):
        run(color_model, "coco_boxes", data=tmp_path)


CAPTIONS = {"red": "A red wall.", "blue": "The blue sky.", "green": "Some green grass."}


def paint_colors(paint, folder, suffix=".jpg"):
    for color in CAPTIONS:
        paint(folder / f"{color}{suffix}", color)


def check_retrieval(result, prefix=""):
    assert result.scores[f"{prefix}i2t_R@1"].value == 1.0
    assert result.scores[f"{prefix}t2i_R@1"].value == pytest.approx(1.0)
    assert result.scores[f"{prefix}t2i_R@1"].chance == pytest.approx(1 / 3)


def karpathy(folder: str) -> dict:
    images = [
        {
            "filename": f"{color}.jpg",
            "split": "test",
            "sentences": [{"raw": caption}] + [{"raw": f"{color} {i}"} for i in range(5)],
        }
        | ({"filepath": folder} if folder else {})
        for color, caption in CAPTIONS.items()
    ]
    return {"images": [*images, {"filename": "train.jpg", "split": "train", "sentences": [{"raw": "x"}]}]}


def test_flickr30k_and_coco_karpathy(tmp_path, paint, color_model):
    paint_colors(paint, tmp_path / "flickr30k/flickr30k-images")
    write_json(tmp_path / "flickr30k/dataset_flickr30k.json", karpathy(""))
    result = run(color_model, "flickr30k", data=tmp_path)
    assert result.data["captions"] == 15  # five of the six sentences
    check_retrieval(result)
    paint_colors(paint, tmp_path / "coco/val2014")
    write_json(tmp_path / "coco/dataset_coco.json", karpathy("val2014"))
    check_retrieval(run(color_model, "coco_retrieval", data=tmp_path))


def test_coco_retrieval_from_captions_val2017(tmp_path, paint, color_model):
    paint_colors(paint, tmp_path / "coco/val2017")
    images = [{"id": i, "file_name": f"{color}.jpg"} for i, color in enumerate(CAPTIONS)]
    annotations = [{"id": i, "image_id": i, "caption": caption} for i, caption in enumerate(CAPTIONS.values())]
    write_json(tmp_path / "coco/annotations/captions_val2017.json", {"images": images, "annotations": annotations})
    result = run(color_model, "coco_retrieval", data=tmp_path)
    check_retrieval(result)
    assert result.settings["annotation_file"].endswith("captions_val2017.json")


def test_a_caption_that_two_images_share_answers_both(tmp_path, paint, color_model):
    paint_colors(paint, tmp_path / "coco/val2017")
    images = [{"id": i, "file_name": f"{color}.jpg"} for i, color in enumerate(("red", "blue"))]
    annotations = [{"id": i, "image_id": i, "caption": "A red wall."} for i in range(2)]
    write_json(tmp_path / "coco/annotations/captions_val2017.json", {"images": images, "annotations": annotations})
    result = run(color_model, "coco_retrieval", data=tmp_path)
    assert values(result)["i2t_R@1"] == values(result)["t2i_R@1"] == 1.0
    assert result.data["captions_shared_by_images"] == 1


def test_sharegpt4v_and_dci_read_long_text(tmp_path, paint, color_model):
    paint_colors(paint, tmp_path / "sam")
    entries = [
        {
            "id": i,
            "image": f"sam/images/{color}.jpg",
            "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": caption}],
        }
        for i, (color, caption) in enumerate(CAPTIONS.items())
    ]
    write_json(tmp_path / "sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json", [*entries, {"broken": True}])
    result = run(color_model, "sharegpt4v", data=tmp_path, count=3)
    check_retrieval(result)
    assert result.settings["text"] == "long"
    with pytest.raises(ValueError, match=r"1107\.json\[3\]: KeyError: 'image'"):
        run(color_model, "sharegpt4v", data=tmp_path)

    paint_colors(paint, tmp_path / "densely_captioned_images/photos")
    for color, caption in CAPTIONS.items():
        entry = {
            "image": f"{color}.jpg",
            "short_caption": caption,
            "extra_caption": "And a black dot.",
            "mask_data": {},
        }
        write_json(tmp_path / f"densely_captioned_images/annotations/{color}.json", entry)
    check_retrieval(run(color_model, "dci", data=tmp_path))
    result = run(
        color_model, "dci", data=tmp_path, caption="extra"
    )  # three equal captions: every image has its answer
    assert result.settings["options"] == {"caption": "extra"}
    assert result.data["captions_shared_by_images"] == 2


def test_imagenet_and_v2_map_folders_to_classes(tmp_path, paint, color_model):
    names = tmp_path / "names.txt"
    names.write_text("red\nblue\ngreen\n")
    for wnid, color in (("n01", "red"), ("n02", "blue"), ("n03", "red")):
        paint(tmp_path / f"imagenet/val/{wnid}/x.JPEG", color)
    result = run(color_model, "imagenet", data=tmp_path, names=str(names))
    assert values(result)["top1"] == pytest.approx(2 / 3, abs=1e-4)
    twelve = [*("black" for _ in range(2)), "red", *(f"grey {i}" for i in range(7)), "blue", "green"]
    names.write_text("\n".join(name if name != "black" else f"black {i}" for i, name in enumerate(twelve)))
    for folder in range(12):  # sorted as text, "10" would come before "2"
        color = {2: "red", 10: "blue", 11: "green"}.get(folder, "white")
        paint(tmp_path / f"imagenetv2-matched-frequency-format-val/{folder}/x.jpeg", color)
    result = run(color_model, "imagenet_v2", data=tmp_path, names=str(names), templates="plain")
    assert result.outcomes["top1"].tolist() == [i in (2, 10, 11) for i in sorted(range(12), key=str)]
    with pytest.raises(ValueError, match="12 class folders, but there are 1000 class names"):
        run(color_model, "imagenet_v2", data=tmp_path)
    (tmp_path / "imagenetv2-matched-frequency-format-val/11").rename(
        tmp_path / "imagenetv2-matched-frequency-format-val/12"
    )
    with pytest.raises(ValueError, match=r"must be called 0 to 11, not '12'"):
        run(color_model, "imagenet_v2", data=tmp_path, names=str(names))


def test_imagenet_folders_named_by_number_sort_by_number(tmp_path, paint, color_model):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["red", "blue", *(f"grey {i}" for i in range(8)), "green", "yellow"]))
    for folder, color in ((0, "red"), (1, "blue"), (10, "green"), (11, "yellow")):
        paint(tmp_path / f"imagenet/val/{folder}/x.png", color)
    for folder in range(2, 10):
        (tmp_path / f"imagenet/val/{folder}").mkdir()
    options = {"data": tmp_path, "names": str(names), "templates": "plain"}
    assert run(color_model, "imagenet", **options).scores["top1"].value == 1.0
    (tmp_path / "imagenet/val/9").rename(tmp_path / "imagenet/val/nine")
    with pytest.raises(ValueError, match=r"no clear order: 11 of 12 are numbers"):
        run(color_model, "imagenet", **options)
    (tmp_path / "imagenet/val/nine").rename(tmp_path / "imagenet/val/01")
    with pytest.raises(ValueError, match=r"some of them twice"):
        run(color_model, "imagenet", **options)


def test_openais_names_need_imagenets_wordnet_ids(tmp_path, paint, color_model):
    ids, classes = imagenet_wnids(), imagenet_names()
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in ids)
    known = dict(zip(ids, classes, strict=True))
    assert known["n01440764"] == "tench"
    assert (known["n02123045"], known["n07753592"]) == ("tabby cat", "banana")
    assert known["n15075141"] == "toilet paper"
    for folder in range(1000):
        (tmp_path / f"imagenet/val/{folder}").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"1000 \(n01440764, n01443537, n01484850, …\) missing, 1000 \(0, 1, 10, …\) unexpected"
    ):
        run(color_model, "imagenet", data=tmp_path)
    for folder, wnid in enumerate(ids):
        (tmp_path / f"imagenet/val/{folder}").rename(tmp_path / f"imagenet/val/{wnid}")
    paint(tmp_path / "imagenet/val/n15075141/x.png", "red")
    task = make_task("imagenet", {"data": tmp_path, "templates": "plain"})
    data = task.load()
    assert data.labels.tolist() == [999]
    assert (data.names, data.templates) == (classes, ["a photo of a {}."])  # all that decides a score is there


def test_what_decides_a_score_is_in_what_load_returns(tmp_path, paint):
    """Earlier results are reused when it is unchanged, so a class list or a template must not be read later."""
    paint_boxes(paint, tmp_path / "coco/val2017/x.png")
    write_json(tmp_path / "coco/annotations/instances_val2017.json", coco_content("x.png"))
    templates = tmp_path / "templates.txt"
    templates.write_text("one {}\n\ntwo {}\n")
    data = make_task("coco_boxes", {"data": tmp_path, "templates": str(templates)}).load()
    assert (data.templates, data.names) == (["one {}", "two {}"], [["red"], ["blue"], ["green"], ["yellow"]])


def test_coco_sizes_go_by_the_annotations_area(tmp_path, paint, color_model):
    paint_boxes(paint, tmp_path / "coco/val2017/x.png")
    content = coco_content("x.png")
    content["annotations"][0]["area"] = 2000.0  # of its 400 pixels: the area decides
    content["annotations"][1]["bbox"] = [20, 0, 440, 64]  # no area: of 28,160 pixels 2,816 lie in the image
    write_json(tmp_path / "coco/annotations/instances_val2017.json", content)
    result = run(color_model, "coco_boxes", data=tmp_path)
    assert {name: scores["top1"].count for name, scores in result.breakdown.items()} == {"small": 1, "medium": 2}


def test_sugarcrepe_with_its_blind_control(tmp_path, paint, color_model):
    paint_colors(paint, tmp_path / "coco/val2017")
    entries = {
        str(i): {"filename": f"{color}.jpg", "caption": caption, "negative_caption": negative}
        for i, (color, caption, negative) in enumerate(
            [
                ("red", "A red wall.", "A blue wall."),
                ("blue", "The blue sky.", "The red sky."),
                ("green", "Red grass.", "Green grass."),
            ]
        )
    }
    write_json(tmp_path / "sugarcrepe/replace_att.json", entries)
    result = run(color_model, "sugarcrepe", data=tmp_path, subsets=("replace_att",))
    score = result.scores["replace_att"]
    assert (score.value, score.chance, score.count) == (pytest.approx(2 / 3), 0.5, 3)
    # By hand: with three images there are two ways to give everyone another's; one lets two rows pass, the other none.
    assert round(score.control * 15, 6) in (0, 2, 4, 6, 8, 10)
    assert result.data["rows_replace_att"] == 3
    del entries["2"]
    write_json(tmp_path / "sugarcrepe/swap_att.json", entries)  # two images: everyone gets the other's, which is wrong
    swapped = run(color_model, "sugarcrepe", data=tmp_path, subsets=("swap_att",)).scores["swap_att"]
    assert (swapped.value, swapped.control, swapped.control_std) == (1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"no annotation file; looked for .*swap_obj"):
        run(color_model, "sugarcrepe", data=tmp_path, subsets=("swap_obj",))


@pytest.fixture
def records(tmp_path, paint):
    """Two images in FineHARD's layout; one phrase in capitals, one region without text, one without negatives."""
    rows = []
    for number, (first, second) in enumerate((("red", "blue"), ("green", "yellow"))):
        paint(
            tmp_path / f"images/coyo_image_0/00000/{number}.jpg",
            "white",
            (first, (0, 0, 32, 64)),
            (second, (32, 0, 64, 64)),
        )
        negatives = {
            str(i): f"a {color} thing"
            for i, color in enumerate(c for c in ("black", "white", "red", "green") if c != first)
        }
        rows.append({
            "f_path": f"grit-20m/data-12m/coyo_image_0/00000/{number}.jpg",
            "caption": f"A {first} thing stands beside a {second} thing.",
            "short_caption": f"{first} and {second}" if number == 0 else None,
            "bbox_info": [
                {"bbox": [0, 0, 0.5, 1, 1.0], "short_expr": f"A {first} thing", "long_expr": f"a {first} thing here", "flag_short_neg": 1, "short_expr_negs": negatives},
                {"bbox": [0.5, 0, 1, 1, 1.0], "short_expr": f"a {second} thing", "long_expr": None, "flag_short_neg": 0},
            ],
        })  # fmt: skip
    write_json(tmp_path / "jsonfiles/part.json", rows)
    return tmp_path


def test_tasks_on_records(records, color_model):
    phrases = run(color_model, "phrases", data=records)
    assert (phrases.scores["top1"].value, phrases.scores["top1"].count, phrases.data["phrases"]) == (1.0, 4, 4)
    assert run(color_model, "phrases", data=records, expression="long").scores["top1"].count == 2
    inside = run(color_model, "phrase_in_image", data=records).scores["top1"]
    assert (inside.value, inside.chance, inside.count) == (1.0, 0.5, 4)
    negatives = run(color_model, "negatives", data=records)
    assert (negatives.scores["top1"].value, negatives.scores["top1"].count) == (1.0, 2)
    assert negatives.breakdown["color"]["top1"].count == 2
    retrieval = run(color_model, "retrieval", data=records)
    assert (retrieval.data["short_images"], retrieval.data["long_images"]) == (1, 2)
    assert retrieval.scores["long_i2t_R@1"].value == 1.0
    with pytest.raises(ValueError, match="no folder of annotations"):
        run(color_model, "phrases", data=records / "elsewhere")


def test_every_task_names_its_files(tmp_path, color_model):
    for name, task in TASKS.items():
        with pytest.raises(ValueError, match=f"^task {name}: no [a-z ]+; looked for {tmp_path}/") as caught:
            run(color_model, name, data=tmp_path)
        assert task.wants in str(caught.value)
        assert re.search(r"https?://|python -m dataset_scripts", task.wants)


def test_options_are_checked_before_any_work(color_model, tmp_path):
    with pytest.raises(ValueError, match=r"unknown task 'fgvod'; there are: .*fgovd"):
        run(color_model, "fgvod")
    with pytest.raises(ValueError, match="has no image; there are data, hub"):
        run(color_model, "fgovd", image=tmp_path)
    with pytest.raises(ValueError, match="it must be int"):
        run(color_model, "phrases", limit="many")


def test_blind_control_is_chance_without_a_prior_and_above_it_with_one(tmp_path, paint, color_model):
    """Positives drawn like the negatives leave nothing to guess; always-red positives give everything away."""
    colors = ["red", "green", "blue", "yellow"]
    random = np.random.default_rng(0)
    rows = {"h": [], "m": []}
    for _ in range(200):
        fair, shown = random.permutation(colors), random.choice(["red", "red", "red", "green"])
        rows["h"].append((fair[0], fair[1:]))
        rows["m"].append((shown, [c for c in colors if c != shown]))
    (tmp_path / "fgovd").mkdir()
    for letter, entries in rows.items():
        for number, (positive, _) in enumerate(entries):  # an image for every row: none gets its own
            paint(tmp_path / f"test/images/{letter}{number}.png", positive)
        lines = [
            json.dumps({
                "img_path": f"{letter}{number}.png", "bbox": [0, 0, 64, 64], "width": 64, "height": 64,
                "pos_expression": [f"a {positive} thing"], "neg_expression": [f"a {negative} thing" for negative in negatives],
            })
            for number, (positive, negatives) in enumerate(entries)
        ]  # fmt: skip
        (tmp_path / f"fgovd/{letter}_attributes_llava.jsonl").write_text("\n".join(lines))
    result = run(color_model, "fgovd", data=tmp_path, subsets=("hard", "medium"))
    assert result.scores["hard"].value == result.scores["medium"].value == 1.0
    assert result.scores["hard"].control == pytest.approx(0.25, abs=0.05)
    assert result.scores["medium"].control == pytest.approx(0.75**2 + 0.25**2, abs=0.05)
