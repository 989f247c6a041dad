"""RefCOCO, RefCOCO+ and RefCOCOg (Kazemzadeh et al., 2014; Mao et al., 2016): the box of a phrase, right from an IoU of 0.5.

A LLaVA answers in the square that it sees, not in the picture: LLaVA's own in the padded square (haotian-liu/LLaVA#606).
The square follows from the processor, and every answer is mapped back to the picture before it is compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dataset_scripts.formats.coco import declared_size
from dataset_scripts.formats.llava import IMAGE_FITS, LOCATE, out_of_square
from dataset_scripts.records import BadBox, cut_box
from dataset_scripts.units import UnitCheck
from eval.images import ImageFile, inside, upright_boxes
from eval.llava.benchmark import AnswerBenchmark, Question, add_accuracy, image_groups, register
from eval.results import Result
from eval.tasks.reading import at, json_lines, numbers_of, shared_reader, text_of

IOU = 0.5
_CHANCE_RUNS = 5
_NUMBER = r"\s*(-?\d+(?:\.\d*)?|-?\.\d+)\s*"
_BOX = re.compile(r"\[" + ",".join([_NUMBER] * 4) + r"\]")


def box_of(answer: str) -> list[float] | None:
    """The first ``[x1, y1, x2, y2]`` of an answer as it stands; None where there is none, or one that is inverted or empty."""
    match = _BOX.search(answer)
    if match is None:
        return None
    x1, y1, x2, y2 = box = [float(edge) for edge in match.groups()]
    return box if all(map(math.isfinite, box)) and x1 < x2 and y1 < y2 else None


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of boxes (N, 4) x1, y1, x2, y2."""
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    overlap = np.clip(high - low, 0, None).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return overlap / (areas[0] + areas[1] - overlap)


def is_located(
    answers: Sequence[str], boxes: np.ndarray, sizes: np.ndarray, image_fit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each answer finds its box.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels of the pictures. sizes: (N, 2) width and height of the pictures.
        image_fit: the square that the answers are fractions of.
    Returns:
        correct (N,) bool, unreadable (N,) bool; unreadable answers are wrong.
    """
    read = [box_of(answer) for answer in answers]
    unreadable = np.array([box is None for box in read], bool)
    found = [
        out_of_square(box or (0, 0, 0, 0), size, image_fit) for box, size in zip(read, sizes.tolist(), strict=True)
    ]
    overlap = iou(np.array(found).reshape(-1, 4), boxes.astype(np.float64))
    return (overlap >= IOU) & ~unreadable, unreadable


def chance_of(boxes: np.ndarray, sizes: np.ndarray) -> float:
    """How often the box of another phrase, drawn at random and put at the same place of the picture, is right."""
    if len(boxes) < 2:
        return 0.0
    units = np.tile(sizes, 2)
    fractions = boxes / units
    random, hits = np.random.default_rng(0), []
    for _ in range(_CHANCE_RUNS):
        order = random.permutation(len(boxes))
        others = np.empty_like(fractions)
        others[order] = fractions[np.roll(order, -1)]
        hits.append(float((iou(others * units, boxes) >= IOU).mean()))
    return float(np.mean(hits))


@dataclass(frozen=True)
class ReferringQuestion(Question):
    """With the width and height of the picture that `label`, the box x1, y1, x2, y2 in pixels, belongs to."""

    size: tuple[float, float]


@register
@dataclass
class RefCoco(AnswerBenchmark):
    """RefCOCO, RefCOCO+ and RefCOCOg: the box that a phrase means, IoU of 0.5 or more (tables 5 and 9: RefCOCO)."""

    name: ClassVar[str] = "refcoco"
    max_new_tokens: ClassVar[int] = 100
    known_subsets: ClassVar[tuple[str, ...]] = (
        "val", "testA", "testB", "plus_val", "plus_testA", "plus_testB", "g_val", "g_test",
    )  # fmt: skip
    wants: ClassVar[
        str
    ] = """It wants, as Qwen-VL converted them (JSON lines: image, sent, bbox x1 y1 x2 y2 in pixels, width, height),
  DATA/refcoco/refcoco_val.jsonl, refcoco_testA.jsonl, refcoco_testB.jsonl   (option annotations=FOLDER)
      https://ofasys-wlcb.oss-cn-wulanchabu.aliyuncs.com/Qwen-VL/evaluation/refcoco/refcoco_val.jsonl …
      subsets plus_val, plus_testA, plus_testB: refcoco+_val.jsonl …; subsets g_val, g_test: refcocog_val.jsonl …
  DATA/refcoco/train2014/*.jpg   http://images.cocodataset.org/zips/train2014.zip (option images=FOLDER)
Option image_fit=pad, squash or crop: the square that answers are fractions of, where it is not the processor's."""

    subsets: tuple[str, ...] = ("val", "testA", "testB")
    annotations: Path = Path()
    images: Path = Path()
    image_fit: str = ""

    def __post_init__(self) -> None:
        if self.image_fit and self.image_fit not in IMAGE_FITS:
            raise ValueError(f"refcoco.image_fit must be one of {', '.join(IMAGE_FITS)}; got {self.image_fit!r}.")

    def load(self) -> list[Question]:
        folder = self.folder(self.images, "refcoco/train2014", "coco/train2014", "train2014")
        questions = []
        for subset in self.subsets:
            kind, _, split = f"_{subset}".rpartition("_")
            name = {"": "refcoco", "_plus": "refcoco+", "_g": "refcocog"}[kind] + f"_{split}.jsonl"
            places = [self.annotations / name] if self.annotations != Path() else [f"refcoco/{name}", name]
            file = self.path(*places, what=f"annotations of {subset}")
            units = UnitCheck()
            for number, (place, row) in enumerate(json_lines(self, file)):
                with at(self, place):
                    units.add(row.get("bbox"), "xyxy")
                    questions.append(_question(f"{subset}/{number}", subset, folder, row))
            with shared_reader(self):
                units.refuse("xyxy", str(file))
        return questions

    def score(
        self, questions: Sequence[ReferringQuestion], answers: Sequence[str], image_fit: str | None = None
    ) -> Result:
        fit = self.image_fit or image_fit
        if not fit:
            raise ValueError(
                "refcoco: answers alone do not say which square their boxes are fractions of; give --model, or the option "
                "refcoco.image_fit=pad (LLaVA's own), squash or crop."
            )
        boxes = np.array([question.label for question in questions], np.float64).reshape(-1, 4)
        sizes = np.array([question.size for question in questions], np.float64).reshape(-1, 2)
        correct, unreadable = is_located(answers, boxes, sizes, fit)
        subset, groups = np.array([question.subset for question in questions]), image_groups(questions)
        result = Result(
            self.name, {}, settings={"iou": IOU, "boxes_are_fractions_of": f"the square of image_fit={fit}"}
        )
        for name in [name for name in self.subsets if (subset == name).any()]:
            rows = subset == name
            add_accuracy(result, name, correct[rows], groups[rows], chance_of(boxes[rows], sizes[rows]))
            result.data[f"{name}_unreadable"] = int(unreadable[rows].sum())
        return result


def _first(row: dict[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _question(number: str, subset: str, folder: Path, row: dict[str, Any]) -> ReferringQuestion:
    """A row of Qwen-VL's files, or of Shikra's, which name the same things otherwise.

    Raises:
        ValueError: no size, or a box outside its image.
    """
    name = text_of(_first(row, "image", "img_path"), "image")
    phrase = text_of(_first(row, "sent", "expression"), "sent").strip()
    size = declared_size(row.get("width"), row.get("height"))
    if size is None:
        raise ValueError("the row has no width and height, which say where a box lies; add those of its image")
    box = np.array(numbers_of(row.get("bbox"), 4, "bbox (x1, y1, x2, y2)"))
    units = np.tile(size, 2)
    try:
        box = np.array(cut_box((box / units).tolist())) * units
    except BadBox as error:
        raise ValueError(
            f"{error}: {row['bbox']} in an image of {size[0]:g}×{size[1]:g} pixels; boxes are x1, y1, x2, y2 in pixels"
        ) from None
    # The converted files name images by a path of their authors' folders, such as data/refcoco/train2014/NAME.
    image = ImageFile(inside(folder, name.rsplit("train2014/", 1)[-1]))
    upright = upright_boxes(image, box[None].astype(np.float32), size)
    return ReferringQuestion(
        number, subset, LOCATE.format(phrase), image, [float(edge) for edge in upright.xyxy[0]], upright.size or size
    )
