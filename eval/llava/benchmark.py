"""What a benchmark of a LLaVA is: questions about images, and the score of the answers."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eval.images import ImageSource
from eval.metrics import accuracy_interval
from eval.results import Result, Score
from eval.tasks.base import Benchmark

BENCHMARKS: dict[str, type[AnswerBenchmark]] = {}


@dataclass(frozen=True)
class Question:
    """One question about one image.

    Attributes:
        id: names it within its benchmark, as ``subset/number``.
        subset: the part of the benchmark that it belongs to.
        prompt: what the model is asked, without a mark for the image.
        image: what it is asked about.
        label: the right answer, in whatever form the benchmark scores.
    """

    id: str
    subset: str
    prompt: str
    image: ImageSource
    label: Any


@dataclass
class AnswerBenchmark(Benchmark):
    """One benchmark: reads its official files, and scores answers without a model.

    Attributes:
        subsets: which of its parts to ask.
    """

    max_new_tokens: ClassVar[int] = 16
    hub_task: ClassVar[str] = "visual-question-answering"
    known_subsets: ClassVar[tuple[str, ...]]

    subsets: tuple[str, ...] = ()

    @abstractmethod
    def load(self) -> list[Question]:
        """All questions of the subsets, in the files' order."""

    @abstractmethod
    def score(self, questions: Sequence[Question], answers: Sequence[str], image_fit: str | None = None) -> Result:
        """Scores with chance levels and intervals; no model is needed.

        Args:
            answers: one for each question.
            image_fit: how the model's processor makes pictures square; None where that is not known.
        """

    def asked(self) -> list[Question]:
        """What `load` reads, checked.

        Raises:
            ValueError: an unknown subset, one without a question, or an id twice.
        """
        unknown = sorted(set(self.subsets) - set(self.known_subsets))
        if unknown or not self.subsets:
            raise ValueError(
                f"task {self.name} has the subsets {', '.join(self.known_subsets)}; got {', '.join(unknown) or 'none'}. "
                "Correct the option subsets."
            )
        questions = self.load()
        if empty := sorted(set(self.subsets) - {question.subset for question in questions}):
            raise ValueError(
                f"task {self.name}: no question of {', '.join(empty)} in its files; leave it out with subsets=…\n{self.wants}"
            )
        seen: set[str] = set()
        for question in questions:
            if question.id in seen:
                raise ValueError(f"task {self.name}: two questions have the id {question.id!r}; ids must be unique.")
            seen.add(question.id)
        return questions

    def folder(self, chosen: Path, *usual: str) -> Path:
        """The folder of images: the user's, or the first usual one that exists. Whether it exists is checked later, image by
        image, and only where images are opened."""
        places = [self.data / place for place in ([chosen] if chosen != Path() else usual)]
        return next((place for place in places if place.is_dir()), places[0])

    def write_submission(self, questions: Sequence[Question], answers: Sequence[str], folder: Path) -> list[Path]:
        """Files for an evaluation server, where the benchmark has one; their paths."""
        return []


def register(benchmark: type[AnswerBenchmark]) -> type[AnswerBenchmark]:
    """Class decorator: make a benchmark available under its name."""
    BENCHMARKS[benchmark.name] = benchmark
    return benchmark


def numbered(keys: Sequence[Hashable]) -> np.ndarray:
    """(N,) int64: equal keys get equal numbers, in the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def image_groups(questions: Sequence[Question]) -> np.ndarray:
    """(N,) the image of each question."""
    return numbered([question.image.identity() for question in questions])


def add_accuracy(result: Result, name: str, correct: np.ndarray, groups: np.ndarray, chance: float) -> None:
    """A share of right answers with its interval over groups (images), and its single outcomes."""
    low, high = accuracy_interval(correct, groups)
    result.scores[name] = Score(float(correct.mean()), len(correct), chance, low=low, high=high)
    result.outcomes[name], result.groups[name] = correct, groups


def add_breakdown(result: Result, name: str, correct: np.ndarray, kinds: Mapping[str, Sequence[str]]) -> None:
    """Shares of right answers by kind.

    Args:
        kinds: heading → (N,) the kind of each question.
    """
    for heading, values in kinds.items():
        values = np.array(values)
        for kind in sorted(set(values.tolist())):
            chosen = correct[values == kind]
            result.breakdown[f"{heading}: {kind}"] = {name: Score(float(chosen.mean()), len(chosen))}


def replaced_images(questions: Sequence[Question], images: Sequence[ImageSource]) -> list[Question]:
    """The same questions about other images."""
    return [dataclasses.replace(question, image=image) for question, image in zip(questions, images, strict=True)]
