"""Foreign files in evaluation: what must be refused, and what training reads alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_scripts.convert.source import with_boxes
from dataset_scripts.images import check_image
from dataset_scripts.own_data import karpathy_source
from dataset_scripts.report import Report
from eval.images import clip_boxes
from eval.tasks import make_task
from tests.dataset_scripts.foreign_samples import FORMATS, Format, picture
from tests.eval.task_runs import run

CASE = Path(__file__).parents[1] / "dataset_scripts/cases/15-eval-boxes-ids"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("dup.json", r"dup\.json, images\[1\] and dup\.json, images\[0\] have the same image id 0"),
        ("dup_and_stray.json", r"have the same image id 0"),
        ("fractions.json", "unit is fractions of the image"),
        ("wrong_size.json", r"images\[0\].*declares 6400×6400 pixels, the picture has 64×64"),
        ("zero_size.json", r"images\[0\]: width and height must be positive numbers of pixels; got 0 and 0"),
    ],
)
def test_boxes_that_must_be_refused(color_model, file: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(color_model, "boxes", data=CASE, annotations=file, images="images")


def boxes_of_training(form: Format, folder: Path) -> set[tuple]:
    """(name, box) of every region that the converter gives, boxes as normalized corners."""
    image, report, found = check_image(picture()), Report(), set()
    for draft in form.source(folder).drafts(report):
        for region in with_boxes(draft, image, report)["regions"]:
            found.add((draft["image"], region["short_expr"], *(round(edge, 5) for edge in region["bbox"])))
    return found


@pytest.mark.parametrize(
    ("form", "task", "options"),
    [
        ("coco instances", "boxes", {"annotations": "i.json"}),
        ("lvis", "lvis_boxes", {"annotations": "l.json"}),
        ("open images", "openimages_boxes", {"annotations": "b.csv", "classes": "c.csv"}),
    ],
)
def test_training_and_evaluation_read_the_same_boxes_and_names(tmp_path: Path, form: str, task: str, options) -> None:
    sample = FORMATS[form]
    sample.write(tmp_path)
    for name in ("0.jpg", "1.jpg", "2.jpg", "3.jpg"):
        for folder in (tmp_path, tmp_path / "train2017"):
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(picture())
    data = make_task(task, {"data": tmp_path, "images": str(tmp_path), **options}).load()
    read = {
        (
            str(image.path.relative_to(tmp_path)),
            data.names[label][0],
            *(round(float(edge), 5) for edge in clip_boxes([box[None]], ["box"])[0][0][0]),
        )
        for image, boxes, labels in zip(data.images, data.boxes, data.labels, strict=True)
        for box, label in zip(boxes.normalized(), labels, strict=True)
    }
    assert read == boxes_of_training(sample, tmp_path)
    assert read


@pytest.mark.parametrize(
    ("form", "task", "options"),
    [
        ("coco captions", "coco_retrieval", {"annotations": "c.json"}),
        ("karpathy", "flickr30k", {"annotations": "k.json"}),
        ("sharegpt4v", "sharegpt4v", {"annotations": "s.json"}),
        ("dci", "dci", {"annotations": "d"}),
    ],
)
def test_training_and_evaluation_read_the_same_captions(tmp_path: Path, form: str, task: str, options) -> None:
    sample = FORMATS[form]
    path = sample.write(tmp_path)
    if form == "karpathy":  # evaluation reads the test split
        path.write_text(path.read_text().replace('"train"', '"test"'))
        source = karpathy_source(path, str(tmp_path), ["test"])
    else:
        source = sample.source(tmp_path)
    rows = make_task(task, {"data": tmp_path, "images": str(tmp_path), **options}).load()
    read = {str(image.path.relative_to(tmp_path)): captions for image, captions in rows}
    drafts = {draft["image"]: draft for draft in source.drafts(Report("raise"))}
    assert read
    assert read == {
        name: [draft["caption"]] if task in ("sharegpt4v", "dci") else draft["short_captions"]
        for name, draft in drafts.items()
    }
