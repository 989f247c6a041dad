"""MMBench (Liu et al., 2024), English and Chinese: a choice among up to four options, plain and circular.

Answers are read by rule alone; one that names no option is wrong and counted apart. Nothing is asked of another model,
and nothing is drawn at random.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from dataset_scripts.atomic import replacing
from dataset_scripts.formats.llava import OPTION_LETTER, OPTION_LETTER_CN, OPTIONS, options_text
from dataset_scripts.formats.table import read_quoted_tsv
from dataset_scripts.json_stream import DamagedRecord
from dataset_scripts.records import is_missing
from eval.images import UnreadableImage
from eval.llava.benchmark import (
    AnswerBenchmark,
    Question,
    add_accuracy,
    add_breakdown,
    image_groups,
    numbered,
    register,
)
from eval.results import Result
from eval.tasks.reading import at, text_of
from modeling_fgclip.extras import missing_extra
from modeling_fgclip.image_input import MAX_BYTES
from modeling_fgclip.pixels import BadImage, Header, read_header, to_rgb

ROUND = 1_000_000  # the rounds of one question have equal ids modulo this
_REFERENCE = 64  # characters: a shorter "image" is the index of the row that has it, as VLMEvalKit's files have it
_ARTICLE = re.compile(r"\bA(?= (?!or\b|and\b)[a-z])")
_LETTER = re.compile(r"(?<![A-Za-z])[A-D](?![A-Za-z])")
# What LLaVA's converter leaves out of the file for the server (convert_mmbench_for_submission.py).
_NOT_SUBMITTED = {"hint", "category", "source", "image", "comment", "l2-category"}


def chosen_letter(answer: str, options: Sequence[str]) -> str | None:
    """The option that an answer names: by the only letter that stands in it, by its text, or not at all.

    Args:
        options: the texts behind A, B, …
    """
    letters = set(_LETTER.findall(_ARTICLE.sub("", answer))) & set(OPTIONS[: len(options)])
    if len(letters) == 1:
        return letters.pop()
    said = answer.strip().rstrip(".。").casefold()
    texts = [option.strip().rstrip(".。").casefold() for option in options]
    named = [place for place, text in enumerate(texts) if text and text == said]
    named = named or [place for place, text in enumerate(texts) if text and text in said]
    return OPTIONS[named[0]] if len(named) == 1 and not letters else None


def is_chosen(
    answers: Sequence[str], options: Sequence[Sequence[str]], labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each answer names the right option.

    Returns:
        correct (N,) bool, unreadable (N,) bool.
    """
    letters = [chosen_letter(answer, texts) for answer, texts in zip(answers, options, strict=True)]
    correct = [letter == label for letter, label in zip(letters, labels, strict=True)]
    return np.array(correct, bool), np.array([letter is None for letter in letters], bool)


def all_rounds(correct: np.ndarray, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Circular evaluation: a question is right if it is right in every round.

    Args:
        correct: (N,) bool. questions: (N,) the question of each row, numbered from 0.
    Returns:
        (Q,) bool, and the first row of each question (Q,).
    """
    right = np.ones(int(questions.max()) + 1, bool)
    np.logical_and.at(right, questions, correct)
    return right, np.unique(questions, return_index=True)[1]


@dataclass(frozen=True)
class EncodedImage:
    """An image as base64 text."""

    text: str

    def _data(self) -> bytes:
        if len(self.text) > MAX_BYTES * 4 // 3 + 4:
            raise UnreadableImage(
                f"an image of {len(self.text):,} base64 characters; at most {MAX_BYTES:,} bytes are read"
            )
        try:
            return base64.b64decode(self.text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UnreadableImage(f"an image that is no base64 ({error})") from None

    def open(self) -> Image.Image:
        try:
            return to_rgb(self._data())
        except BadImage as error:
            raise UnreadableImage(f"a base64 image that cannot be decoded ({error})") from None

    def header(self) -> Header:
        try:
            return read_header(self._data())
        except BadImage as error:
            raise UnreadableImage(f"a base64 image that cannot be decoded ({error})") from None

    def exists(self) -> bool:
        return True

    def identity(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def content(self) -> str:
        return self.identity()


@dataclass(frozen=True)
class ChoiceQuestion(Question):
    """With the index of its row, its options, its category, and what the server wants back.

    `label` is the letter of the right option, None in a file without answers.
    """

    index: int
    options: tuple[str, ...]
    category: str
    submitted: dict[str, str]


@register
@dataclass
class MMBench(AnswerBenchmark):
    """MMBench and MMBench-CN (table 9): plain and circular accuracy on dev; for test the file that its server scores."""

    name: ClassVar[str] = "mmbench"
    known_subsets: ClassVar[tuple[str, ...]] = ("dev_en", "dev_cn", "test_en", "test_cn")
    wants: ClassVar[str] = """It wants
  DATA/mmbench/mmbench_dev_en_20231003.tsv, mmbench_dev_cn_20231003.tsv   (option files=FOLDER)
      https://download.openmmlab.com/mmclassification/datasets/mmbench/mmbench_dev_en_20231003.tsv …
      subsets test_en, test_cn: mmbench_test_en_20231003.tsv …, whose answers only MMBench's server has
(columns index, question, hint, A, B, C, D, answer, category, image as base64). Names such as mmbench_dev_20230712.tsv and
MMBench_DEV_EN.tsv are known as well."""

    subsets: tuple[str, ...] = ("dev_en", "dev_cn")
    files: Path = Path()

    def load(self) -> list[Question]:
        return [question for subset in self.subsets for question in self._read(subset, self._file(subset))]

    def _file(self, subset: str) -> Path:
        folder = self.path(*([self.files] if self.files != Path() else ["mmbench", "."]), what="folder of files")
        part, language = subset.split("_")
        wanted = re.compile(
            rf"mmbench_{part}(_{language}|{'(?!_cn)' if language == 'en' else '_cn'})(_\w+)?", re.IGNORECASE
        )
        found = sorted(path for path in folder.glob("*.tsv") if wanted.fullmatch(path.stem))
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise ValueError(
                f"task {self.name}: {folder} must hold one file of {subset}, it holds {names}; leave {subset} out with "
                f"mmbench.subsets=…, or give a folder of its own with mmbench.files=FOLDER.\n{self.wants}"
            )
        return found[0]

    def _read(self, subset: str, file: Path) -> list[Question]:
        questions: list[ChoiceQuestion] = []
        images: dict[str, str] = {}
        for place, row in read_quoted_tsv(file):
            with at(self, f"{file.parent}/{place}"):
                if isinstance(row, DamagedRecord):
                    raise ValueError(row.text)
                questions.append(_question(subset, row, images))
        self._check_answers(subset, file, questions)
        return list(questions)

    def _check_answers(self, subset: str, file: Path, questions: Sequence[ChoiceQuestion]) -> None:
        lacking = [question for question in questions if question.label is None]
        if lacking and (subset.startswith("dev") or len(lacking) < len(questions)):
            raise ValueError(
                f"task {self.name}: {file} has no answer to {len(lacking)} of its {len(questions)} rows (the first: index "
                f"{lacking[0].index}). Only the server has those of the test files: subset {subset.replace('dev', 'test')}.\n"
                f"{self.wants}"
            )

    def score(
        self, questions: Sequence[ChoiceQuestion], answers: Sequence[str], image_fit: str | None = None
    ) -> Result:
        result = Result(self.name, {}, settings={"answers_read_by": "letter or text of the option; no model, no draw"})
        for subset in self.subsets:
            rows = [place for place, q in enumerate(questions) if q.subset == subset and q.label is not None]
            if rows:
                self._score_subset(result, subset, [questions[i] for i in rows], [answers[i] for i in rows])
        return result

    def _score_subset(
        self, result: Result, subset: str, questions: Sequence[ChoiceQuestion], answers: Sequence[str]
    ) -> None:
        options = [question.options for question in questions]
        correct, unreadable = is_chosen(answers, options, [question.label for question in questions])
        images = image_groups(questions)
        guess = np.array([1 / len(texts) for texts in options])
        plain = np.array([question.index < ROUND for question in questions])
        if not plain.all():
            asked = numbered([question.index % ROUND for question in questions])
            circular, first = all_rounds(correct, asked)
            together = np.ones(len(circular))
            np.multiply.at(together, asked, guess)
            add_accuracy(result, subset, circular, images[first], float(together.mean()))
            add_breakdown(result, subset, circular, {subset: [questions[place].category for place in first]})
        if plain.any():
            add_accuracy(result, f"{subset}_plain", correct[plain], images[plain], float(guess[plain].mean()))
        result.data[f"{subset}_rows"] = len(questions)
        result.data[f"{subset}_unreadable"] = int(unreadable.sum())

    def write_submission(
        self, questions: Sequence[ChoiceQuestion], answers: Sequence[str], folder: Path
    ) -> list[Path]:
        paths = []
        for subset in [name for name in self.subsets if name.startswith("test")]:
            rows = [
                question.submitted | {"prediction": answer}
                for question, answer in zip(questions, answers, strict=True)
                if question.subset == subset
            ]
            if rows:
                paths.append(_write_table(folder / f"mmbench_{subset}.xlsx", rows))
        return paths


def _write_table(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    try:
        from openpyxl import Workbook
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    except ImportError:
        raise ValueError(missing_extra("The file for MMBench's server needs openpyxl", "llava")) from None
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    columns = list(rows[0])
    sheet.append(columns)
    for row in rows:
        # A cell that begins with "=" would be a formula, and control characters are not allowed.
        texts = [ILLEGAL_CHARACTERS_RE.sub("", str(row[name])) for name in columns]
        sheet.append(
            [
                int(text) if name == "index" else _as_text(sheet, text)
                for name, text in zip(columns, texts, strict=True)
            ]
        )
    with replacing(path) as part:
        book.save(part)
    return path


def _as_text(sheet: Any, text: str) -> Any:
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet, text)
    cell.data_type = "s"
    return cell


def _question(subset: str, row: dict[str, str], images: dict[str, str]) -> ChoiceQuestion:
    """
    Args:
        images: index → image of the rows before; this row's is added.
    Raises:
        ValueError: no number, fewer than two options, an answer that is none of them, or no image.
    """
    if any("\ufffd" in cell for name, cell in row.items() if name != "image"):
        raise ValueError("a cell has broken encoding; the file must be UTF-8")
    index = int(row["index"])
    texts = []
    for letter in OPTIONS:  # LLaVA, too, stops at the first that is missing
        if is_missing(row.get(letter)):
            break
        texts.append(row[letter])
    if len(texts) < 2:
        raise ValueError(f"a choice needs the options A and B at least; got {texts}")
    answer = row.get("answer", "").strip()
    label = None if is_missing(answer) else answer
    if label is not None and label not in list(OPTIONS[: len(texts)]):
        raise ValueError(f"the answer is {answer!r}, and the options are {', '.join(OPTIONS[: len(texts)])}")
    image = row.get("image", "").strip()
    if image and len(image) <= _REFERENCE:
        if image not in images:
            raise ValueError(f"image is {image!r}, which is neither base64 nor the index of a row before it")
        image = images[image]
    if not image:
        raise ValueError("image is empty; it must be the image as base64")
    images[row["index"]] = image
    hint = row.get("hint", "")
    asked = options_text(text_of(row["question"], "question"), texts, "" if is_missing(hint) else hint)
    closing = OPTION_LETTER_CN if subset.endswith("_cn") else OPTION_LETTER
    submitted = {name: value for name, value in row.items() if name not in _NOT_SUBMITTED}
    return ChoiceQuestion(
        f"{subset}/{index}",
        subset,
        f"{asked}\n{closing}",
        EncodedImage(image),
        label,
        index,
        tuple(texts),
        row.get("l2-category") or row.get("category") or "–",
        submitted,
    )
