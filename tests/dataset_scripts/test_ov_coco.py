"""The open-vocabulary split, and reading of boxes for a detector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dataset_scripts.ov_coco import ClassSplit, main, read_detection


def instances(folder: Path, **changes: object) -> Path:
    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 9, "file_name": "b.jpg", "width": 50, "height": 50},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 4, "name": "cat"}, {"id": 5, "name": "hot dog"}],
        "annotations": [
            {"id": 0, "image_id": 7, "category_id": 4, "bbox": [10, 10, 20, 30]},
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 100.4, 80], "iscrowd": 1, "area": 5},
            {"id": 2, "image_id": 9, "category_id": 5, "bbox": [0, 0, 10, 10]},
        ],
    }
    content.update(changes)
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_the_lists_are_those_of_the_literature() -> None:
    split = ClassSplit.ov_coco()
    assert (len(split.base), len(split.novel)) == (48, 17)
    assert {"airplane", "cat", "umbrella", "scissors"} < set(split.novel)
    assert not {"dining table", "hot dog", "traffic light"} & {*split.base, *split.novel}


def test_boxes_of_other_classes_and_images_without_any_are_dropped_and_counted(tmp_path: Path) -> None:
    data = read_detection(instances(tmp_path), ("person", "cat"))
    (image,) = data.images
    assert (image.id, image.path, image.size, data.category_ids) == (7, "a.jpg", (100, 80), [1, 4])
    assert image.labels.tolist() == [1, 0]
    assert image.crowd.tolist() == [False, True]
    np.testing.assert_allclose(image.areas, [600, 5], rtol=1e-6)
    # COCO's own boxes reach over the border by a rounding error, and are cut.
    np.testing.assert_allclose(image.boxes, [[10, 10, 30, 40], [0, 0, 100, 80]], rtol=1e-6)
    assert data.left_out["boxes of other classes"] == 1
    assert [one.id for one in read_detection(instances(tmp_path), ("person",), keep_empty=True).images] == [7, 9]


@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ([10, 10, 200, 30], "outside the image"),
        ([-30, 10, 40, 30], "outside the image"),
        ([10, 10, 0, 30], "inverted or empty"),
        ([10, 10, -5, 30], "inverted or empty"),
        ([10, 10, float("nan"), 30], "finite"),
        ([10, 10, 20], "list of four numbers"),
        (None, "list of four numbers"),
    ],
)
def test_boxes_that_are_none_are_refused_or_counted(tmp_path: Path, bbox: object, reason: str) -> None:
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 4, "bbox": bbox},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [1, 1, 5, 5]},
    ]
    path = instances(tmp_path, annotations=annotations)
    with pytest.raises(ValueError, match=rf"{reason}.*annotations\[0\]"):
        read_detection(path, ("person", "cat"))
    data = read_detection(path, ("person", "cat"), on_bad="skip")
    assert data.images[0].labels.tolist() == [0]
    assert sum(data.left_out.values()) == 1


def test_classes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no category 'dog'"):
        read_detection(instances(tmp_path), ("person", "dog"))
    with pytest.raises(ValueError, match="holds no box"):
        read_detection(instances(tmp_path, annotations=[]), ("person",))
    with pytest.raises(ValueError, match="more than once"):
        ClassSplit(("cat", "dog"), ("cat",))
    with pytest.raises(ValueError, match="at least one base class"):
        ClassSplit((), ("cat",))


def test_rare_classes_of_lvis_are_novel(tmp_path: Path) -> None:
    categories = [
        {"id": 1, "name": "aerosol_can", "frequency": "c"},
        {"id": 2, "name": "bow_(weapon)", "frequency": "r"},
        {"id": 3, "name": "person", "frequency": "f"},
    ]
    path = instances(tmp_path, categories=categories, annotations=[])
    split = ClassSplit.of_lvis(path)
    assert split == ClassSplit(("aerosol can", "person"), ("bow (weapon)",))
    with pytest.raises(ValueError, match="rare"):
        ClassSplit.of_lvis(instances(tmp_path))


def test_the_self_check_knows_the_published_counts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    split = ClassSplit.ov_coco()
    names = [{"id": n, "name": name} for n, name in enumerate((*split.base, *split.novel))]
    annotations = [{"id": 1, "image_id": 7, "category_id": 0, "bbox": [1, 1, 5, 5]}]
    path = instances(tmp_path, categories=names, annotations=annotations)
    main([str(path)])
    assert "base: 1" in capsys.readouterr().out
    with pytest.raises(ValueError, match="published counts of val2017"):
        main([str(path.rename(tmp_path / "instances_val2017.json"))])
