"""POPE (Li et al., 2023): is an object in the image? Scored on the first sentence of an answer, as LLaVA does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from dataset_scripts.formats.llava import SHORT_ANSWER
from eval.images import ImageFile, inside
from eval.llava.benchmark import AnswerBenchmark, Question, add_accuracy, image_groups, register
from eval.metrics import mean_ratio, mean_ratio_interval
from eval.results import Result, Score
from eval.tasks.reading import at, json_lines, text_of

MEASURES = ("precision", "recall", "f1", "yes_ratio")


def says_yes(answer: str) -> bool:
    """LLaVA's rule (eval_pope.py): "no" exactly if the first sentence holds the word No, not or no."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    return not {"No", "not", "no"} & set(words)


def contributions(answers: Sequence[str], labels: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each measure as a ratio of sums.

    Args:
        labels: "yes" or "no".
    Returns:
        measure → numerator and denominator (N,), what each answer adds. F1 is 2 TP / (2 TP + FP + FN).
    """
    yes = np.array([says_yes(answer) for answer in answers], bool)
    truth = np.array([label == "yes" for label in labels], bool)
    hit = yes & truth
    return {
        "accuracy": (yes == truth, np.ones(len(yes))),
        "precision": (hit, yes),
        "recall": (hit, truth),
        "f1": (2 * hit, yes.astype(int) + truth),
        "yes_ratio": (yes, np.ones(len(yes))),
    }


@register
@dataclass
class Pope(AnswerBenchmark):
    """POPE: yes or no, against absent objects drawn at random, by frequency and by company (tables 5 and 9: mean F1)."""

    name: ClassVar[str] = "pope"
    known_subsets: ClassVar[tuple[str, ...]] = ("random", "popular", "adversarial")
    wants: ClassVar[str] = """It wants
  DATA/pope/coco_pope_random.json, coco_pope_popular.json, coco_pope_adversarial.json
      https://github.com/AoiDragon/POPE/tree/e3e39262c85a6a83f26cf5094022a782cb0df58d/output/coco (option questions=FOLDER; there
      random has 2,910 rows, as in LLaVA's numbers, and 3,000 since)
  DATA/pope/val2014/*.jpg   http://images.cocodataset.org/zips/val2014.zip (option images=FOLDER)"""

    subsets: tuple[str, ...] = ("random", "popular", "adversarial")
    questions: Path = Path()
    images: Path = Path()

    def load(self) -> list[Question]:
        images = self.folder(self.images, "pope/val2014", "coco/val2014", "val2014")
        questions = []
        for subset in self.subsets:
            name = f"coco_pope_{subset}.json"
            places = [self.questions / name] if self.questions != Path() else [f"pope/{name}", f"pope/coco/{name}"]
            for place, row in json_lines(self, self.path(*places, what=f"questions of {subset}")):
                with at(self, place):
                    if row["label"] not in ("yes", "no"):
                        raise ValueError(f"label must be yes or no; got {row['label']!r}")
                    image = ImageFile(inside(images, row["image"]))
                    prompt = f"{text_of(row['text'], 'text')}\n{SHORT_ANSWER}"
                    questions.append(Question(f"{subset}/{row['question_id']}", subset, prompt, image, row["label"]))
        return questions

    def score(self, questions: Sequence[Question], answers: Sequence[str], image_fit: str | None = None) -> Result:
        found = contributions(answers, [question.label for question in questions])
        groups = image_groups(questions)
        subset = np.array([question.subset for question in questions])
        names = [name for name in self.subsets if (subset == name).any()]
        member = np.stack([subset == name for name in names], 1)  # (N, subsets)
        truth = np.array([question.label == "yes" for question in questions])
        result = Result(self.name, {"f1": _score("f1", found, member, groups, truth)})
        for column, name in enumerate(names):
            rows = member[:, column]
            add_accuracy(result, f"{name}_accuracy", found["accuracy"][0][rows], groups[rows], 0.5)
            for measure in MEASURES:
                result.scores[f"{name}_{measure}"] = _score(measure, found, member[:, [column]], groups, truth)
        result.settings["chance"] = "who says yes and no at random, equally often"
        result.data["answers_empty"] = sum(not answer.strip() for answer in answers)
        return result


def _score(
    measure: str,
    found: dict[str, tuple[np.ndarray, np.ndarray]],
    member: np.ndarray,
    groups: np.ndarray,
    truth: np.ndarray,
) -> Score:
    """The mean of a measure over subsets, with its interval and what a coin would reach."""
    rows = member.any(1)
    numerators, denominators = (part[:, None] * member for part in found[measure])
    low, high = mean_ratio_interval(numerators[rows], denominators[rows], groups[rows])
    share = (truth[:, None] * member).sum(0) / member.sum(0)  # of the label "yes"
    coin = {"precision": share, "recall": np.array([0.5]), "f1": share / (share + 0.5), "yes_ratio": np.array([0.5])}
    value = mean_ratio(numerators, denominators)
    return Score(value, int(rows.sum()), float(coin[measure].mean()), low=low, high=high)
