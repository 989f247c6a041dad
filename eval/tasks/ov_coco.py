"""Open-vocabulary detection on COCO (table 3): AP50 of novel, base and all classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dataset_scripts.ov_coco import ClassSplit, DetectionData, read_detection
from dataset_scripts.progress import progress_bar
from dataset_scripts.upright import turn_back, turn_box, turn_of_boxes
from eval.images import ImageFile, ImageSource, inside
from eval.results import Result, Score
from eval.tasks.base import Task, register

if TYPE_CHECKING:
    from torch import Tensor

    from eval.embed import Embedder

Size = tuple[int, int]  # width, height in pixels


def turned(boxes: Tensor, size: Size, into: Size, orientation: int) -> Tensor:
    """(K, 4) xyxy in pixels of a picture → in pixels of the same picture, turned."""
    units, pixels = boxes.new_tensor([*size, *size]), boxes.new_tensor([*into, *into])
    return boxes.new_tensor([turn_box(box, orientation) for box in (boxes / units).tolist()]).reshape(-1, 4) * pixels


@dataclass
class OpenVocabularyData:
    """Boxes of the classes, base first, and where the images lie.

    Attributes:
        results: detections to score, in COCO's results format; None to detect.
    """

    boxes: DetectionData
    split: ClassSplit
    images: list[ImageSource]
    results: list[dict[str, Any]] | None

    @property
    def names(self) -> list[str]:
        return [*self.split.base, *self.split.novel]


@register
@dataclass
class OpenVocabularyCOCO(Task):
    """Detection with boxes of base classes alone in training: F-ViT on the model as a frozen encoder."""

    name: ClassVar[str] = "ov_coco"
    wants: ClassVar[str] = """It wants
  DATA/annotations/instances_val2017.json   http://images.cocodataset.org/annotations/annotations_trainval2017.zip
  DATA/val2017/*.jpg                        http://images.cocodataset.org/zips/val2017.zip
and either option detector=FOLDER (of training/detection/train.py, on the evaluated model) or option results=FILE (COCO's
results format). Other data: options annotations=FILE, images=FOLDER, classes=FILE.json ({"base": [names], "novel": [names]})."""

    detector: Path = Path()
    results: Path = Path()
    annotations: Path = Path("annotations/instances_val2017.json")
    images: Path = Path("val2017")
    classes: Path = Path()

    def load(self) -> OpenVocabularyData:
        split = ClassSplit.ov_coco() if self.classes == Path() else ClassSplit.read(self.data / self.classes)
        file = self.path(self.annotations, what="instances file")
        if (self.detector == Path()) == (self.results == Path()):
            raise ValueError(f"task {self.name}: give either detector=FOLDER or results=FILE.\n{self.wants}")
        boxes = read_detection(file, (*split.base, *split.novel))
        folder = self.path(self.images, what="folder of images") if self.results == Path() else self.data / self.images
        images = [ImageFile(inside(folder, image.path)) for image in boxes.images]
        return OpenVocabularyData(boxes, split, images, self._read_results())

    def _read_results(self) -> list[dict[str, Any]] | None:
        if self.results == Path():
            return None
        try:
            return json.loads((self.data / self.results).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"task {self.name}: {self.results} is no file of COCO results: {error}") from None

    def check(self, data: OpenVocabularyData) -> None:
        from eval.detection.average_precision import check_results, require_pycocotools

        require_pycocotools()
        if data.results is not None:
            check_results(data.boxes, data.results)
        else:
            from eval.detection.requirements import require_torchvision

            require_torchvision()

    def images_of(self, data: OpenVocabularyData) -> list[ImageSource]:
        return [] if data.results is not None else data.images

    def score(self, embedder: Embedder, data: OpenVocabularyData) -> Result:
        from eval.detection.average_precision import match, mean_intervals

        results = self._detect(embedder, data) if data.results is None else data.results
        scores, matches = match(data.boxes, results)
        base = len(data.split.base)
        groups = {"novel": range(base, len(scores)), "base": range(base), "all": range(len(scores))}
        intervals = mean_intervals(matches, groups)
        found = Result(self.name, {}, settings={"iou": 0.5, "detections": len(results)})
        for name, classes in groups.items():
            chosen = scores[list(classes)]
            if not np.isnan(chosen).all():
                low, high = intervals[name]
                boxes = int(sum(matches[label].boxes.sum() for label in classes))
                found.scores[name] = Score(float(np.nanmean(chosen)), boxes, low=low, high=high)
        for label, (name, one) in enumerate(zip(data.names, scores, strict=True)):
            if not np.isnan(one):
                kind = "base" if label < base else "novel"
                found.breakdown[f"{kind}: {name}"] = {"AP50": Score(float(one), int(matches[label].boxes.sum()))}
        found.data = {"images": len(data.boxes.images), "classes": len(scores)} | data.boxes.left_out
        return found

    def _detect(self, embedder: Embedder, data: OpenVocabularyData) -> list[dict[str, Any]]:
        from accelerate.utils import gather_object

        from eval.detection.checkpoint import load_detector
        from eval.detection.predict import coco_results, predict
        from eval.together import failing_together

        detector = load_detector(self.detector, data.names, embedder.adapter, embedder).to(embedder.device)
        state = embedder.state
        # Every process takes each n-th image; the order of results does not matter.
        mine = range(state.process_index, len(data.images), state.num_processes)
        found = predict(detector, [data.images[i] for i in mine], progress=False)
        bar = progress_bar(
            zip(mine, found, strict=True), total=len(mine), desc="detecting", disable=not embedder.progress
        )
        results = []
        with failing_together():
            for i, boxes in bar:
                truth = data.boxes.images[i]
                # Detections are of the upright picture; results are of the one that the annotation describes.
                turn = turn_back(turn_of_boxes(data.images[i].header(), truth.size))
                boxes["boxes"] = turned(boxes["boxes"], data.images[i].header().size, truth.size, turn)
                results += coco_results(boxes, truth.id, data.boxes.category_ids)
        return (
            sorted(gather_object(results), key=lambda one: str(one["image_id"]))
            if state.num_processes > 1
            else results
        )
