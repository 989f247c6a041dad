"""Answers of a tiny random LLaVA: the same in any batch, about the image, with one start token, resumable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from eval.images import MemoryImage
from eval.llava.__main__ import main
from eval.llava.benchmark import Question
from eval.llava.generation import Answerer
from eval.llava.image_fit import image_fit_of
from eval.report import load_run
from training.llava.build import IMAGE_FITS, build_llava

ROOT = Path(__file__).parents[3]


def _picture(seed: int) -> MemoryImage:
    pixels = torch.randint(0, 256, (40, 60, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return MemoryImage(Image.fromarray(pixels.numpy()))


def _questions(count: int = 7) -> list[Question]:
    return [Question(f"val/{n}", "val", "a star " * (1 + n % 4), _picture(n), "") for n in range(count)]


def _answers(answerer: Answerer, questions: list[Question], length: int = 8) -> dict[str, str]:
    pairs = [pair for batch, texts in answerer.answers(questions, length) for pair in zip(batch, texts, strict=True)]
    return {question.id: text for question, text in pairs}


def test_a_batch_gives_what_its_questions_give_alone(llava) -> None:
    questions = _questions()
    together = _answers(Answerer(*llava, batch_size=7, progress=False), questions)
    alone = _answers(Answerer(*llava, batch_size=1, progress=False), questions)
    assert together == alone
    assert len(set(alone.values())) > 4  # images and lengths tell
    same = [Question(f"val/{n}", "val", "a star", _picture(n), "") for n in range(4)]
    assert len(set(_answers(Answerer(*llava, progress=False), same).values())) > 1  # the image alone tells


def test_greedy_is_the_most_likely_token_each_time(llava) -> None:
    model, processor = llava
    answerer = Answerer(model, processor, progress=False)
    question = _questions(1)[0]
    inputs = answerer.inputs([question.prompt], [question.image.open()])
    ids = inputs["input_ids"]
    with torch.no_grad():
        for _ in range(8):
            logits = model(
                input_ids=ids, pixel_values=inputs["pixel_values"], attention_mask=torch.ones_like(ids)
            ).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
            if ids[0, -1] == processor.tokenizer.eos_token_id:
                break
    expected = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert _answers(answerer, [question]) == {"val/0": expected}


def test_one_start_token_and_padding_on_the_left(llava) -> None:
    answerer = Answerer(*llava, progress=False)
    tokenizer = answerer.tokenizer
    inputs = answerer.inputs(["a", "a star and a star"], [_picture(0).open()] * 2)
    assert (inputs["input_ids"] == tokenizer.bos_token_id).sum(1).tolist() == [1, 1]
    assert inputs["attention_mask"][0, 0] == 0
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]
    assert answerer.prompt("a?").startswith("<s>A chat between a curious user and an artificial")
    assert answerer.prompt("a?").endswith(" USER: <image>\na? ASSISTANT:")


def test_a_template_without_a_start_token_leaves_it_to_the_tokenizer(llava, monkeypatch) -> None:
    """As llava-hf's checkpoints: their tokenizer adds it."""
    answerer = Answerer(*llava, progress=False)
    asked = []
    call = type(answerer.processor).__call__
    monkeypatch.setattr(
        type(answerer.processor), "__call__", lambda self, **options: asked.append(options) or call(self, **options)
    )
    answerer.inputs(["a"], [_picture(0).open()])
    monkeypatch.setattr(
        answerer.processor, "chat_template", answerer.processor.chat_template.replace("{{- bos_token -}}", "")
    )
    answerer.inputs(["a"], [_picture(0).open()])
    assert [options["add_special_tokens"] for options in asked] == [False, True]


def test_a_question_with_an_image_token_or_a_template_without_one(llava, monkeypatch) -> None:
    answerer = Answerer(*llava, progress=False)
    with pytest.raises(ValueError, match="holds the image token '<image>' 2 times"):
        answerer.prompt("what is <image>?")
    monkeypatch.setattr(answerer.processor, "chat_template", "{{ bos_token }}{{ messages[0].content[1].text }}")
    with pytest.raises(ValueError, match="0 times, for one image"):  # it would answer without the image
        answerer.prompt("what?")


def test_processors_that_are_refused(llava, llava_parts) -> None:
    model, processor = build_llava(*llava_parts)
    processor.chat_template = None
    processor.tokenizer.pad_token = None
    with pytest.raises(ValueError, match="lacks a chat template and a padding token"):
        Answerer(model, processor)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        Answerer(*llava, batch_size=0)


@pytest.mark.parametrize("fit", IMAGE_FITS)
def test_how_pictures_become_square_is_read_from_the_saved_processor(llava_parts, tmp_path: Path, fit: str) -> None:
    from transformers import AutoProcessor

    build_llava(*llava_parts, image_fit=fit)[1].save_pretrained(tmp_path)
    assert image_fit_of(AutoProcessor.from_pretrained(tmp_path).image_processor) == fit


def test_transformers_own_default_is_a_crop_and_odd_ones_are_refused() -> None:
    from transformers import CLIPImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    assert image_fit_of(LlavaImageProcessorPil()) == "crop"
    assert image_fit_of(CLIPImageProcessorPil(size={"height": 4, "width": 4}, do_center_crop=False)) == "squash"
    with pytest.raises(ValueError, match="neither pads nor crops to a square"):
        image_fit_of(CLIPImageProcessorPil(size={"shortest_edge": 4}, do_center_crop=False))


def _main(llava_folder: Path, benchmarks: Path, output: Path, *more: str):
    words = ["--model", str(llava_folder), "--data", str(benchmarks), "--output", str(output), "--batch_size", "8"]
    return main([*words, *more])


def test_a_run_its_files_and_going_on(llava_folder: Path, benchmarks: Path, tmp_path: Path, monkeypatch) -> None:
    asked: list[int] = []
    generate = Answerer._generate
    monkeypatch.setattr(
        Answerer,
        "_generate",
        lambda self, inputs, n: asked.append(len(inputs["input_ids"])) or generate(self, inputs, 4),
    )
    options = ("--tasks", "gqa", "pope", "--limit", "20", "--control_questions", "8")
    results = _main(llava_folder, benchmarks, tmp_path, *options)
    assert results["gqa"].scores["accuracy"].count == 21  # 7 whole images
    assert results["gqa"].scores["accuracy"].control is not None
    assert results["gqa"].data["control_questions"] == 9
    assert results["gqa"].settings["image_fit"] == "pad"
    assert results["pope"].scores["f1"].control is not None
    names = {path.name for path in (tmp_path / "answers").iterdir()}
    assert {"gqa.jsonl", "gqa.run.json", "gqa_control.jsonl", "pope.jsonl"} <= names
    report = (tmp_path / "report.md").read_text()
    for said in ("table 5", "table 9", "LLaVA-1.5 with FG-CLIP", "86.8", "NOT COMPARABLE", "detailed: border"):
        assert said in report
    assert "type: visual-question-answering" in (tmp_path / "model-index.yml").read_text()
    # Killed: half of one file is there; and asked again, only what lacks is answered.
    file, first = tmp_path / "answers" / "gqa.jsonl", sum(asked)
    whole = file.read_text()
    file.write_text("".join(whole.splitlines(keepends=True)[:5]) + '{"question_id": "2')
    asked.clear()
    again = _main(llava_folder, benchmarks, tmp_path, *options)
    assert sum(asked) == 16 < first
    assert sorted(file.read_text().splitlines()) == sorted(whole.splitlines())
    assert again["gqa"].scores == results["gqa"].scores
    assert load_run(tmp_path)["pope"].scores == results["pope"].scores
    # The file alone gives the same scores.
    scored = main(["--tasks", "gqa", "--data", str(benchmarks), "--answers", str(file), "--limit", "20"])
    assert scored["gqa"].scores["accuracy"].value == results["gqa"].scores["accuracy"].value
    # Other questions are another run.
    with pytest.raises(ValueError, match="other questions"):
        _main(llava_folder, benchmarks, tmp_path, "--tasks", "gqa", "--limit", "30")
    assert file.exists()
    words = ["--data", str(benchmarks), "--answers", str(file), "--limit", "20", "--output", str(tmp_path)]
    with pytest.raises(ValueError, match="made by other weights"):
        main(["--tasks", "gqa", *words])


def test_two_processes_give_the_answers_of_one(llava_folder: Path, benchmarks: Path, tmp_path: Path) -> None:
    options = ["--model", str(llava_folder), "--data", str(benchmarks), "--tasks", "gqa", "--limit", "12"]
    options += ["--control_questions", "3", "--batch_size", "3"]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "eval.llava",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*torchrun, *options, "--output", str(tmp_path / "two")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    main([*options, "--output", str(tmp_path / "one")])
    for name in ("gqa.jsonl", "gqa_control.jsonl"):
        one, two = ((tmp_path / folder / "answers" / name).read_text() for folder in ("one", "two"))
        assert one == two
    assert load_run(tmp_path / "one")["gqa"].scores == load_run(tmp_path / "two")["gqa"].scores


def test_mmbenchs_server_file_is_written_by_a_run(llava_folder, benchmarks: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("openpyxl")
    monkeypatch.setattr(Answerer, "_generate", lambda self, inputs, n: ["A"] * len(inputs["input_ids"]))
    options = ("--tasks", "mmbench", "--task_options", "mmbench.subsets=test_cn", "--control_questions", "0")
    results = _main(llava_folder, benchmarks, tmp_path, *options)
    assert results["mmbench"].scores == {}
    assert (tmp_path / "mmbench_test_cn.xlsx").is_file()
    assert not (tmp_path / "report.md").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tasks", "gqa"], "--model"),
        (["--model", "m"], "--tasks"),
        (["--model", "m", "--tasks", "gqa"], "--output is needed"),
        (["--tasks", "gqa", "pope", "--answers", "a.jsonl"], "one file a task"),
        (["--tasks", "vqa", "--answers", "a.jsonl"], "unknown task 'vqa'; there are: gqa, mmbench, pope, refcoco"),
        (
            ["--tasks", "gqa", "--answers", "a.jsonl", "--task_options", "gqa.subset=x"],
            "task gqa has no subset; there are",
        ),
        (["--tasks", "gqa", "--answers", "a.jsonl", "--limit", "0"], "--limit must be at least 1"),
        (["--tasks", "gqa", "--model", "m", "--output", "o", "--control_questions", "-1"], "must not be negative"),
    ],
)
def test_command_lines_that_are_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        main(words)


def test_a_folder_without_a_llava(benchmarks: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(ValueError, match="is no LLaVA that transformers loads"):
        main(["--model", str(tmp_path), "--tasks", "gqa", "--data", str(benchmarks), "--output", str(tmp_path / "o")])


def test_boxes_are_read_in_the_square_of_the_run(llava_folder, llava_parts, benchmarks: Path, tmp_path: Path) -> None:
    """The file beside the answers says it; the model says it, too; an option goes before both."""
    from dataset_scripts.formats.llava import box_text, into_square
    from eval.llava.benchmarks import BENCHMARKS
    from eval.tasks.base import make_task

    questions = make_task("refcoco", {"data": benchmarks}, BENCHMARKS).asked()
    rows = [{"question_id": q.id, "text": box_text(into_square(q.label, q.size, "squash"))} for q in questions]
    file = tmp_path / "refcoco.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--tasks", "refcoco", "--data", str(benchmarks), "--answers", str(file)]
    with pytest.raises(ValueError, match="image_fit=pad"):
        main(words)
    build_llava(*llava_parts, image_fit="squash")[1].save_pretrained(tmp_path / "squash")
    by_model = main([*words, "--model", str(tmp_path / "squash")])["refcoco"]
    file.with_suffix(".run.json").write_text(json.dumps({"image_fit": "squash"}))
    by_file = main(words)["refcoco"]
    by_option = main([*words, "--task_options", "refcoco.image_fit=squash", "--model", str(llava_folder)])["refcoco"]
    for result in (by_model, by_file, by_option):
        assert [score.value for score in result.scores.values()] == [1, 1, 1]
    assert main([*words, "--model", str(llava_folder)])["refcoco"].scores["val"].value < 1  # pad
