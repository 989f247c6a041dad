"""Zero-shot box classification (table 2): the shared protocol, and the task on any COCO instances file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import normalize

from eval.box_sizes import COCO_PIXELS, add_size_breakdown
from eval.embed import Embedder
from eval.images import Boxes, DatasetImage, ImageFile, ImageSource, inside
from eval.prompts import templates_named
from eval.results import Result
from eval.scoring import add_class_scores, class_ranks
from eval.tasks.base import Task, register, require_some

HUB_COLUMNS = "It needs image and objects, with bbox (x, y, width, height in pixels) and category (a ClassLabel)."


@dataclass
class BoxData:
    """Boxes with a class each.

    Attributes:
        images: N sources. boxes: of each image. labels: (K,) class indices of the boxes of each image.
        names: the names of every class; several names (synonyms) are averaged.
        skipped: boxes left out, by reason.
    """

    images: list[ImageSource]
    boxes: list[Boxes]
    labels: list[np.ndarray]
    names: list[list[str]]
    skipped: dict[str, int] = field(default_factory=dict)


def class_embeddings(embedder: Embedder, names: Sequence[Sequence[str]], templates: Sequence[str]) -> torch.Tensor:
    """(C, D): each class is the normalised mean over its names in all templates (Radford et al., 2021, section 3.1.4)."""
    texts = [template.format(name) for group in names for name in group for template in templates]
    features = embedder.texts(texts)
    sizes = [len(group) * len(templates) for group in names]
    return normalize(torch.stack([part.mean(0) for part in features.split(sizes)]), dim=-1)


def classify_boxes(task: Task, embedder: Embedder, data: BoxData, templates: str) -> Result:
    """Region feature of every box against all class names: top-1 and top-5 over boxes, and their means over classes.

    Raises:
        ValueError: a label outside the class list, two classes of one name, no box.
    """
    labels = np.concatenate(data.labels) if data.labels else np.empty(0, np.int64)
    if not len(labels):
        raise ValueError(f"task {task.name}: the annotations hold no usable box.\n{task.wants}")
    if labels.min() < 0 or labels.max() >= len(data.names):
        raise ValueError(
            f"task {task.name}: class indices reach {labels.max()}, but there are {len(data.names)} class names; the lists do not belong together."
        )
    first = [group[0] for group in data.names]
    if len(set(first)) < len(first):
        twice = sorted({name for name in first if first.count(name) > 1})
        raise ValueError(
            f"task {task.name}: {len(twice)} class names stand for several classes ({', '.join(twice[:5])}); no answer could be right."
        )
    features, valid, clipped = embedder.regions(data.images, data.boxes)
    require_some(task, valid)
    labels = labels[valid]
    groups = np.repeat(np.arange(len(data.images)), [len(part) for part in data.labels])[valid]
    prompts = templates_named(templates)
    classes = class_embeddings(embedder, data.names, prompts)
    better, tied = class_ranks(features[torch.from_numpy(valid)], classes, labels)
    settings = embedder.region_settings() | {"text": "short", "templates": f"{templates} ({len(prompts)})"}
    result = Result(task.name, {}, settings=settings)
    add_class_scores(result, better, tied, labels, len(data.names), groups)
    areas = np.concatenate([_pixel_areas(boxes) for boxes in data.boxes])[valid]
    if not np.isnan(areas).any():
        add_size_breakdown(result, better, tied, areas, groups, len(data.names), COCO_PIXELS)
    result.data = {
        "images": len(data.images),
        "boxes": len(labels),
        "classes": len(data.names),
        "boxes_clipped": clipped,
    } | data.skipped
    return result


def _pixel_areas(boxes: Boxes) -> np.ndarray:
    sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    return sides.prod(1) if boxes.size is not None else np.full(len(sides), np.nan)


def read_coco(task: Task, file: Path, images: Path, image_of: Any = None) -> BoxData:
    """A COCO instances file: images, annotations with xywh pixel boxes, categories.

    Crowd annotations and boxes without area are left out and counted.

    Args:
        image_of: from an image entry to its path below `images`; the default is its file_name.
    Raises:
        ValueError: not such a file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        categories = sorted(content["categories"], key=lambda c: c["id"])
        index = {category["id"]: i for i, category in enumerate(categories)}
        # LVIS writes its synonyms beside the name; names join words by underscores.
        names = [[_words(c["name"])] for c in categories]
        boxes: dict[int, list[list[float]]] = {}
        labels: dict[int, list[int]] = {}
        skipped = {"boxes_skipped_crowd": 0, "boxes_skipped_empty": 0}
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            if annotation.get("iscrowd"):
                skipped["boxes_skipped_crowd"] += 1
            elif not (w > 0 and h > 0):
                skipped["boxes_skipped_empty"] += 1
            else:
                boxes.setdefault(annotation["image_id"], []).append([x, y, x + w, y + h])
                labels.setdefault(annotation["image_id"], []).append(index[annotation["category_id"]])
        entries = [entry for entry in content["images"] if entry["id"] in boxes]
        strays = len(boxes) - len(entries)
        if strays:
            raise ValueError(
                f"{file}: annotations name {strays} images that the file does not list; it is cut or edited."
            )
        name_of = image_of or (lambda entry: entry["file_name"])
        sources: list[ImageSource] = [ImageFile(inside(images, name_of(entry))) for entry in entries]
        sizes = [(float(entry["width"]), float(entry["height"])) for entry in entries]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is not a COCO instances file ({type(error).__name__}: {error}).\n{task.wants}"
        ) from None
    return BoxData(
        sources,
        [Boxes(np.array(boxes[e["id"]], np.float32), size) for e, size in zip(entries, sizes, strict=True)],
        [np.array(labels[e["id"]], np.int64) for e in entries],
        names,
        skipped,
    )


def _words(name: str) -> str:
    return name.replace("_", " ").strip()


@dataclass
class BoxTask(Task):
    """What the box classification tasks share.

    Attributes:
        annotations: the annotation file, relative to `data`.
        images: folder below which its file names are found, relative to `data`.
        templates: plain, openai7, openai80, or a text file with one template a line.
    """

    needs_regions: ClassVar[bool] = True

    annotations: Path = Path()
    images: Path = Path()
    templates: str = "openai80"

    def hub_boxes(self) -> BoxData:
        """Rows in the convention of object detection data sets on the Hub.

        Raises:
            ValueError: no such columns, or categories without names.
        """
        rows = self.hub_rows(["image", "objects"])
        try:
            objects = rows.features["objects"]
            category = (objects["category"] if isinstance(objects, dict) else objects.feature["category"]).feature
            names = [[_words(name)] for name in category.names]
        except (AttributeError, KeyError, TypeError):
            raise ValueError(f"task {self.name}: {self.hub} names no categories. {self.columns}") from None
        data = BoxData([], [], [], names, {"boxes_skipped_empty": 0})
        for i, row in enumerate(rows):
            found = np.array(row["objects"]["bbox"], np.float32).reshape(-1, 4)
            usable = (found[:, 2:] > 0).all(1)
            data.skipped["boxes_skipped_empty"] += int((~usable).sum())
            found[:, 2:] += found[:, :2]
            data.images.append(DatasetImage(rows, i))
            data.boxes.append(Boxes(found[usable], row["image"].size))
            data.labels.append(np.array(row["objects"]["category"], np.int64)[usable])
        return data

    def images_of(self, data: BoxData) -> list[ImageSource]:
        return data.images

    def score(self, embedder: Embedder, data: BoxData) -> Result:
        return classify_boxes(self, embedder, data, self.templates)


@register
@dataclass
class BoxClassification(BoxTask):
    """Box classification on any data set with a COCO instances file, such as the generated sample's."""

    name: ClassVar[str] = "boxes"
    wants: ClassVar[str] = """It wants
  DATA/boxes/instances_test.json   images, annotations (bbox x, y, width, height in pixels), categories (option annotations=FILE)
  DATA/test/images/                the images, found by file_name (option images=FOLDER)
`python -m dataset_scripts.sample --output DATA` makes both."""

    columns: ClassVar[str] = HUB_COLUMNS

    annotations: Path = Path("boxes/instances_test.json")
    templates: str = "plain"

    def load(self) -> BoxData:
        if self.hub:
            return self.hub_boxes()
        file = self.path(self.annotations, what="instances file")
        folders = [self.images] if self.images != Path() else [Path("test/images"), Path("images")]
        return read_coco(self, file, self.path(*folders, what="folder of images"))
