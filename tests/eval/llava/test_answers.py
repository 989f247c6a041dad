"""Files of answers: appended, gone on with, joined by id, refused when they are of something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from eval.images import MemoryImage
from eval.llava.answers import AnswersFile, joined, read_answers
from eval.llava.benchmark import Question
from eval.llava.control import blind, of_whole_images


def _questions(count: int = 3, subset: str = "val", images: int = 1) -> list[Question]:
    pictures = [MemoryImage(Image.new("RGB", (2, 2), (number, 0, 0))) for number in range(images)]
    return [Question(f"{subset}/{n}", subset, f"q{n}", pictures[n % images], "yes") for n in range(count)]


def _write(path: Path, *rows: dict | str) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_answers_are_joined_by_id(tmp_path: Path) -> None:
    rows = [{"question_id": f"val/{n}", "text": f"a{n}", "prompt": "…"} for n in (2, 0, 1)]
    assert joined(_write(tmp_path / "a.jsonl", *rows, ""), _questions()) == ["a0", "a1", "a2"]
    # LLaVA's own files have numbers; where there is one subset they are clear.
    rows = [{"question_id": n, "text": f"a{n}"} for n in (2, 0, 1)]
    assert joined(_write(tmp_path / "a.jsonl", *rows), _questions()) == ["a0", "a1", "a2"]
    with pytest.raises(ValueError, match=r"3 ids that are no question's \(the first: '2'\) and 6 questions without"):
        joined(tmp_path / "a.jsonl", _questions() + _questions(subset="test"))


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"question_id": "val/0", "text": "a"}] * 2, r"line 2: a second answer to 'val/0'"),
        ([{"question_id": 0, "text": "a"}, {"question_id": "0", "text": "b"}], "line 2: a second answer"),
        ([{"question_id": "val/0"}], r"line 1 is no answer \(KeyError: 'text'\)"),
        ([{"question_id": "val/0", "text": None}], "text a text"),
        ([{"question_id": None, "text": "a"}], "question_id must be a text or number"),
        (["[1, 2]"], "line 1 is no answer"),
        (["{not json"], "line 1 is no answer"),
        (
            [{"question_id": f"val/{n}", "text": "a"} for n in range(4)],
            r"1 ids that are no question's \(the first: 'val/3'",
        ),
        ([{"question_id": "val/0", "text": "a"}], r"2 questions without an answer \(the first: 'val/1'"),
        ([], "3 questions without an answer"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, rows: list, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        joined(_write(tmp_path / "a.jsonl", *rows), _questions())


def test_a_cut_file_is_not_scored(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", *[{"question_id": f"val/{n}", "text": "a"} for n in range(3)])
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(ValueError, match=r"line 3 is no answer .* was the file cut"):
        joined(path, _questions())
    with pytest.raises(ValueError, match="is no file"):
        read_answers(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_killed_run_goes_on_behind_its_last_whole_line(tmp_path: Path, cut: int) -> None:
    questions, path = _questions(), tmp_path / "answers" / "a.jsonl"
    file = AnswersFile(path, "run", {"model": "m"})
    file.append(questions[:2], ["zero\nis multi-line “text”", "one"])
    file.append(questions[2:], ["two"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])  # whatever was written of the last line
    again = AnswersFile(path, "run", {"model": "m"})
    missing = [question for question in questions if question.id not in again.texts]
    assert missing == questions[-len(missing) :]
    again.append(missing, [["zero\nis multi-line “text”", "one", "two"][int(q.id[-1])] for q in missing])
    assert path.read_bytes() == whole
    assert json.loads(path.with_suffix(".run.json").read_text()) == {"model": "m", "run": "run"}


def test_answers_of_another_run_are_kept_unless_they_are_given_up(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    AnswersFile(path, "first", {}).append(_questions(), ["a", "b", "c"])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another model, other settings or other questions"):
        AnswersFile(path, "second", {})
    assert path.read_bytes() == before
    assert AnswersFile(path, "first", {}).texts["val/2"] == "c"
    assert AnswersFile(path, "second", {}, overwrite=True).texts == {}
    path.write_text("")
    path.with_suffix(".run.json").unlink()  # nobody knows of what
    with pytest.raises(ValueError, match="another model"):
        AnswersFile(path, "second", {})


def test_damage_before_the_end_is_not_mended(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    AnswersFile(path, "run", {}).append(_questions(), ["a", "b", "c"])
    path.write_bytes(path.read_bytes().replace(b'"text": "a"', b'"text": "a'))
    with pytest.raises(ValueError, match="line 1 is no answer"):
        AnswersFile(path, "run", {})


def test_the_blind_control_asks_about_another_image() -> None:
    questions = _questions(40, images=10)
    control = blind(questions, 1000)
    assert [question.id for question in control] == [question.id for question in questions]
    moved = {before.image: after.image for before, after in zip(questions, control, strict=True)}
    assert len(moved) == len(set(moved.values())) == 10  # all questions about one image move together
    assert all(before is not after for before, after in moved.items())
    assert len({question.image for question in blind(questions, 9)}) == 3  # 4 questions an image
    assert len({question.image for question in blind(questions, 1)}) == 2
    assert blind(questions, 0) == []
    assert blind(_questions(5, images=1), 1000) == []
    assert [q.id for q in of_whole_images(questions, 5)] == [f"val/{n}" for n in range(40) if n % 10 < 2]
