"""Zero-shot box classification (table 2): the shared protocol, and the task on any COCO instances file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dataset_scripts.formats.coco import declared_size, read_coco
from dataset_scripts.formats.objects import category_names, list_of_objects
from eval.box_sizes import COCO_PIXELS, FRACTIONS, SizeRule, add_size_breakdown, fractions_of_image
from eval.images import Boxes, DatasetImage, ImageFile, ImageSource, clip_boxes, inside, upright_boxes
from eval.prompts import templates_named
from eval.results import Result
from eval.scoring import add_class_scores, class_ranks, require_classes
from eval.tasks.base import Task, register, require_some
from eval.tasks.reading import at, check_units, numbers_of, shared_reader

if TYPE_CHECKING:
    from torch import Tensor

    from eval.embed import Embedder

HUB_COLUMNS = "It needs image and objects, with bbox (x, y, width, height in pixels) and category (a ClassLabel)."


@dataclass
class BoxData:
    """Boxes with a class each, and all else that decides a score.

    Attributes:
        images: N sources. boxes: of each image. labels: (K,) class indices of the boxes of each image.
        names: the names of every class; several names (synonyms) are averaged.
        skipped: boxes left out, by reason.
        areas: (K,) of the boxes of each image, in the unit of `sizes`; none to take fractions of the image.
        sizes: what is small, medium and large.
        templates: the prompt templates; the tasks fill them in.
    """

    images: list[ImageSource]
    boxes: list[Boxes]
    labels: list[np.ndarray]
    names: list[list[str]]
    skipped: dict[str, int] = field(default_factory=dict)
    areas: list[np.ndarray] | None = None
    sizes: SizeRule = FRACTIONS
    templates: list[str] = field(default_factory=list)


def class_embeddings(
    embedder: Embedder,
    names: Sequence[Sequence[str]],
    templates: Sequence[str],
    kind: str = "short",
    as_written: bool = False,
) -> Tensor:
    """(C, D): each class is the normalized mean over its names in all templates (Radford et al., 2021, section 3.1.4)."""
    import torch

    texts = [template.format(name) for group in names for name in group for template in templates]
    features = embedder.texts(texts, kind, as_written)
    sizes = [len(group) * len(templates) for group in names]
    return torch.nn.functional.normalize(torch.stack([part.mean(0) for part in features.split(sizes)]), dim=-1)


def check_box_data(task: Task, data: BoxData) -> None:
    """Refuse boxes and class lists that do not belong together.

    Raises:
        ValueError: a label outside the class list, fewer than two classes, two classes of one name, no box, one that is empty or
            outside its image, or boxes in fractions where pixels are declared.
    """
    require_classes(task.name, len(data.names))
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
    check_units(task, data.boxes)
    clip_boxes([boxes.normalized() for boxes in data.boxes], [f"task {task.name}, {image}" for image in data.images])


def classify_boxes(task: Task, embedder: Embedder, data: BoxData, templates: str, as_written: bool = False) -> Result:
    """Region feature of every box against all class names: top-1 and top-5 over boxes, and their means over classes.

    Args:
        data: which `check_box_data` let pass. templates: what `data.templates` are called.
        as_written: leave the upper-case letters of names and templates.
    """
    features, valid, clipped = embedder.regions(data.images, data.boxes)
    require_some(task, valid)
    labels = np.concatenate(data.labels)[valid]
    groups = np.repeat(np.arange(len(data.images)), [len(part) for part in data.labels])[valid]
    classes = class_embeddings(embedder, data.names, data.templates, "region", as_written)
    better, tied = class_ranks(features[valid], classes, labels)
    settings = embedder.region_settings() | {
        "text": embedder.kind_of_text("region") + ", as written" * as_written,
        "templates": f"{templates} ({len(data.templates)})",
    }
    result = Result(task.name, {}, settings=settings)
    add_class_scores(result, better, tied, labels, len(data.names), groups)
    areas = data.areas if data.areas is not None else [fractions_of_image(part.normalized()) for part in data.boxes]
    add_size_breakdown(result, better, tied, np.concatenate(areas)[valid], groups, len(data.names), data.sizes)
    result.data = {
        "images": len(data.images),
        "boxes": len(labels),
        "classes": len(data.names),
        "boxes_clipped": clipped,
    } | data.skipped
    return result


def read_instances(task: Task, file: Path, images: Path, sizes_declared: bool = True) -> BoxData:
    """A COCO or LVIS instances file: images, annotations with xywh pixel boxes, categories.

    Crowd annotations and boxes without area are left out and counted. Small, medium and large go by an annotation's `area`, as
    in COCO's own evaluation (there the area of the segment); by the box's part inside the image where it has none.

    Args:
        sizes_declared: whether the file must give width and height of each image; if not, headers say what is missing.
    Raises:
        ValueError: not such a file; names the entry.
    """
    with shared_reader(task) as report:
        coco = read_coco(None, file, report)
    # One name a class, as the published evaluations have it: LVIS also lists synonyms, which are not read.
    with at(task, str(file), "has category ids that cannot be sorted"):
        ordered = sorted(coco.categories)
    index = {category: i for i, category in enumerate(ordered)}
    skipped = {"boxes_skipped_crowd": 0, "boxes_skipped_empty": 0}
    data = BoxData([], [], [], [[coco.categories[category]] for category in ordered], skipped, [], COCO_PIXELS)
    for image in coco.images:
        boxes, labels, areas = [], [], []
        for thing in image.objects:
            with at(task, thing.where):
                x, y, w, h = numbers_of(thing.bbox, 4, "bbox (x, y, width, height)")
                if thing.crowd:
                    skipped["boxes_skipped_crowd"] += 1
                elif not (w > 0 and h > 0):
                    skipped["boxes_skipped_empty"] += 1
                else:
                    boxes.append([x, y, x + w, y + h])
                    labels.append(index[thing.category])
                    areas.append(float(thing.area or np.nan))
        if boxes:
            with at(task, image.where):
                if image.size is None and sizes_declared:
                    raise ValueError("width and height of the image are missing")
                file = ImageFile(inside(images, image.path))
                _add_boxes(data, file, np.array(boxes, np.float32), image.size, labels, areas)
    return data


def _add_boxes(
    data: BoxData,
    image: ImageSource,
    xyxy: np.ndarray,
    declared: tuple[float, float] | None,
    labels: Sequence[int],
    areas: Sequence[float],
) -> None:
    """Append an image with its boxes (K, 4) in pixels; an area that is NaN is taken from the box inside the image."""
    boxes = upright_boxes(image, xyxy, declared)
    inner = np.clip(boxes.xyxy, 0, [*(boxes.size or (1, 1))] * 2)
    of_boxes = (inner[:, 2:] - inner[:, :2]).prod(1)
    data.images.append(image)
    data.boxes.append(boxes)
    data.labels.append(np.array(labels, np.int64))
    data.areas.append(np.where(np.isnan(areas), of_boxes, areas))


@dataclass
class BoxTask(Task):
    """What the box classification tasks share.

    Attributes:
        annotations: the annotation file, relative to `data`.
        images: folder below which its file names are found, relative to `data`.
        templates: bare, plain, openai7, openai80, or a text file with one template a line.
    """

    needs_regions: ClassVar[bool] = True
    as_written: ClassVar[bool] = False  # whether the protocol leaves upper-case letters

    annotations: Path = Path()
    images: Path = Path()
    templates: str = "openai80"

    def hub_boxes(self) -> BoxData:
        """Rows in the convention of object detection data sets on the Hub.

        Sizes come from the columns width and height, which say whether boxes belong to the stored or the upright image
        (`eval.images.upright_boxes`), and from the images' headers: nothing is decoded here.

        Raises:
            ValueError: no such columns, categories without names, or a malformed row.
        """
        rows = self.hub_rows(["image", "objects"])
        names = category_names(rows.features["objects"])
        if names is None:
            raise ValueError(f"task {self.name}: {self.hub} names no categories. {self.columns}")
        data = BoxData([], [], [], [[name] for name in names], {"boxes_skipped_empty": 0}, [], COCO_PIXELS)
        for i, row in enumerate(rows.remove_columns("image")):
            with at(self, f"{self.hub}, row {i}"):
                self._add_hub_row(data, DatasetImage(rows, i), row)
        return data

    def _add_hub_row(self, data: BoxData, image: DatasetImage, row: dict[str, Any]) -> None:
        objects = list_of_objects(row["objects"])
        found = np.array([numbers_of(one["bbox"], 4, "bbox") for one in objects], np.float32).reshape(-1, 4)
        labels = np.array([one["category"] for one in objects], np.int64)
        areas = np.array([one.get("area") or np.nan for one in objects], np.float64)
        usable = (found[:, 2:] > 0).all(1)
        data.skipped["boxes_skipped_empty"] += int((~usable).sum())
        found[:, 2:] += found[:, :2]
        declared = declared_size(row.get("width"), row.get("height"))
        _add_boxes(data, image, found[usable], declared, labels[usable], areas[usable])

    def read(self) -> BoxData:
        """The task's own files."""
        raise NotImplementedError

    def load(self) -> BoxData:
        data = self.hub_boxes() if self.hub else self.read()
        data.templates = templates_named(self.templates)
        return data

    def check(self, data: BoxData) -> None:
        check_box_data(self, data)

    def images_of(self, data: BoxData) -> list[ImageSource]:
        return data.images

    def score(self, embedder: Embedder, data: BoxData) -> Result:
        return classify_boxes(self, embedder, data, self.templates, self.as_written)


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

    def read(self) -> BoxData:
        file = self.path(self.annotations, what="instances file")
        folders = [self.images] if self.images != Path() else [Path("test/images"), Path("images")]
        return read_instances(self, file, self.path(*folders, what="folder of images"))
