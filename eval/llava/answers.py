"""Files of answers, one a benchmark: JSON lines with LLaVA's `question_id` and `text`; a killed run goes on behind the last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataset_scripts.atomic import write_json
from dataset_scripts.formats.files import read_json
from eval.llava.benchmark import Question


def read_answers(path: Path) -> dict[str, str]:
    """question_id → text.

    Raises:
        ValueError: no such file, a line that is no answer, or an id twice; the file and the line are named.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file; it must hold JSON lines with question_id and text.")
    found: dict[str, str] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
                key, text = row["question_id"], row["text"]
            except Exception as error:  # not JSON, no object, a key that lacks
                cut = "" if line.endswith(b"\n") else "; it is the last one, was the file cut?"
                raise ValueError(
                    f"{path}, line {number} is no answer ({type(error).__name__}: {error}){cut}. Lines are JSON objects with "
                    "question_id and text."
                ) from None
            if isinstance(key, bool) or not isinstance(key, str | int) or not isinstance(text, str):
                raise ValueError(
                    f"{path}, line {number}: question_id must be a text or number and text a text; got {row}."
                )
            if str(key) in found:
                raise ValueError(f"{path}, line {number}: a second answer to {key!r}; each question has one.")
            found[str(key)] = text
    return found


def joined(path: Path, questions: Sequence[Question]) -> list[str]:
    """The answers of a file in the order of the questions; joined by id, never by order.

    Where all questions are of one subset, an id may lack it: ``17`` for ``testdev/17``, as LLaVA's own files have it.

    Raises:
        ValueError: ids that are no question's, or questions without an answer.
    """
    found = read_answers(path)
    if len({question.subset for question in questions}) == 1:
        bare = {question.id.removeprefix(f"{question.subset}/"): question.id for question in questions}
        found = {bare.get(key, key): text for key, text in found.items()}
    ids = [question.id for question in questions]
    strange, lacking = [key for key in found if key not in set(ids)], [key for key in ids if key not in found]
    if strange or lacking:
        parts = [
            f"{len(keys)} {what} (the first: {keys[0]!r})"
            for keys, what in ((strange, "ids that are no question's"), (lacking, "questions without an answer"))
            if keys
        ]
        raise ValueError(
            f"{path} does not answer these questions: {' and '.join(parts)}. It has {len(found)} answers to {len(ids)} "
            f"questions, whose ids are such as {ids[0]!r}; give the answers to these very questions and subsets."
        )
    return [found[key] for key in ids]


class AnswersFile:
    """The answers of one run, appended as they come.

    Beside it stands ``NAME.run.json``, which says what they are answers of.

    Args:
        path: of the answers. run: identifies model, settings and questions. about: for people, written beside `run`.
        overwrite: begin anew where the file is of another run.
    Raises:
        ValueError: the file is of another run, or damaged elsewhere than at its end.
    """

    def __init__(self, path: Path, run: str, about: dict[str, Any], overwrite: bool = False):
        self.path = path
        beside = path.with_suffix(".run.json")
        if path.exists() and not self._is_of(beside, run):
            if not overwrite:
                raise ValueError(
                    f"{path} holds answers of another model, other settings or other questions. Give another --output, or "
                    "--overwrite to replace them."
                )
            path.unlink()
        write_json(beside, about | {"run": run})
        self._cut_tail()
        self.texts = read_answers(path) if path.exists() else {}

    @staticmethod
    def _is_of(beside: Path, run: str) -> bool:
        return beside.is_file() and read_json(beside).get("run") == run

    def _cut_tail(self) -> None:
        """Removes what a killed process left of a line."""
        if self.path.exists():
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                with self.path.open("r+b") as file:
                    file.truncate(whole)

    def append(self, questions: Sequence[Question], texts: Sequence[str]) -> None:
        """Writes the answers of a batch."""
        rows = [
            {"question_id": question.id, "prompt": question.prompt, "text": text}
            for question, text in zip(questions, texts, strict=True)
        ]
        with self.path.open("ab", buffering=0) as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        self.texts |= {row["question_id"]: row["text"] for row in rows}
