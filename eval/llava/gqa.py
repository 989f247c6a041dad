"""GQA (Hudson and Manning, 2019), testdev_balanced: exact answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from dataset_scripts.formats.llava import SHORT_ANSWER
from eval.images import ImageFile, inside
from eval.llava.benchmark import AnswerBenchmark, Question, add_accuracy, add_breakdown, image_groups, register
from eval.results import Result
from eval.tasks.reading import at, read_json, text_of


def prediction(answer: str) -> str:
    """What LLaVA hands to GQA's script (convert_gqa_for_eval.py): lower case, without full stops at the end."""
    return answer.rstrip(".").lower()


def is_correct(answers: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """(N,) bool: the prediction equals the answer, letter by letter."""
    return np.array([prediction(answer) == label for answer, label in zip(answers, labels, strict=True)], bool)


@dataclass(frozen=True)
class GqaQuestion(Question):
    """With GQA's names for its kind."""

    structural: str
    semantic: str
    detailed: str


@register
@dataclass
class Gqa(AnswerBenchmark):
    """GQA, testdev_balanced: questions about objects, attributes and relations (tables 5 and 9)."""

    name: ClassVar[str] = "gqa"
    known_subsets: ClassVar[tuple[str, ...]] = ("testdev",)
    wants: ClassVar[str] = """It wants
  DATA/gqa/testdev_balanced_questions.json   https://downloads.cs.stanford.edu/nlp/data/gqa/questions1.2.zip (option questions=FILE)
  DATA/gqa/images/*.jpg                      https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip (option images=FOLDER)"""

    subsets: tuple[str, ...] = ("testdev",)
    questions: Path = Path()
    images: Path = Path()

    def load(self) -> list[Question]:
        name, own = "testdev_balanced_questions.json", self.questions != Path()
        places = [self.questions] if own else [f"gqa/{name}", f"gqa/data/{name}", f"gqa/questions1.2/{name}"]
        file = self.path(*places, what="questions")
        folder = self.folder(self.images, "gqa/images", "gqa/data/images")
        content = read_json(self, file)
        if not isinstance(content, dict):
            raise ValueError(f"task {self.name}: {file} must be an object of questions by their ids.\n{self.wants}")
        questions: list[Question] = []
        for number, entry in content.items():
            with at(self, f"{file}, question {number}"):
                image = inside(folder, f"{text_of(entry['imageId'], 'imageId')}.jpg")
                types = entry.get("types") or {}
                kinds = [str(types.get(kind)) for kind in ("structural", "semantic", "detailed")]
                prompt = f"{text_of(entry['question'], 'question')}\n{SHORT_ANSWER}"
                answer = text_of(entry["answer"], "answer")
                questions.append(GqaQuestion(number, "testdev", prompt, ImageFile(image), answer, *kinds))
        return questions

    def score(self, questions: Sequence[GqaQuestion], answers: Sequence[str], image_fit: str | None = None) -> Result:
        labels = [question.label for question in questions]
        correct = is_correct(answers, labels)
        # Who always gives the most frequent answer.
        chance = Counter(labels).most_common(1)[0][1] / len(labels)
        result = Result(self.name, {})
        add_accuracy(result, "accuracy", correct, image_groups(questions), chance)
        kinds = {name: [getattr(q, name) for q in questions] for name in ("structural", "semantic", "detailed")}
        add_breakdown(result, "accuracy", correct, kinds)
        return result
