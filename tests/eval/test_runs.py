"""Runs of the command line into folders: what may be used again, what is refused, what a result says of its making."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from eval.__main__ import main
from eval.identity import digest_of
from eval.images import ImageFile
from eval.report.__main__ import main as write_report_again
from eval.tasks.phrases import Phrases

COLORS = ("red", "green", "blue", "yellow")


@pytest.fixture
def make_data(tmp_path, paint) -> Callable[..., Path]:
    """make_data(name, captions) writes FG-OVD's hard file: four images of one color and the caption of each."""

    def make(name: str, captions: tuple[str, ...] = COLORS) -> Path:
        root = tmp_path / name
        rows = []
        for color, caption in zip(COLORS, captions, strict=True):
            paint(root / f"coco/{color}.png", color)
            others = [f"a {other} thing" for other in COLORS if other != caption]
            rows.append(
                {"img_path": f"{color}.png", "bbox": [0, 0, 64, 64], "width": 64, "height": 64}
                | {"pos_expression": [f"a {caption} thing"], "neg_expression": others}
            )
        (root / "fgovd").mkdir()
        (root / "fgovd/h_attributes_llava.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return root

    return make


def run(data: Path, output: Path, *options: str) -> dict:
    torch.manual_seed(0)  # the color model has a random weight, which belongs to its fingerprint
    command = [
        "--model",
        "color",
        "--adapter",
        "tests.eval.color_model:ColorModel",
        "--tasks",
        "fgovd",
        "--data",
        str(data),
    ]
    return main([*command, "--task_options", "fgovd.subsets=hard", "--output", str(output), *options])


def hard(results: dict) -> float:
    return results["fgovd"].scores["hard"].value


def test_other_data_is_another_run(make_data, tmp_path, capsys):
    right, wrong = make_data("right"), make_data("wrong", COLORS[1:] + COLORS[:1])
    assert hard(run(right, tmp_path / "out")) == 1.0
    capsys.readouterr()
    assert hard(run(right, tmp_path / "out")) == 1.0
    assert "not run again" in capsys.readouterr().out
    assert hard(run(wrong, tmp_path / "out")) == 0.0  # the same options, another --data
    annotations = right / "fgovd/h_attributes_llava.jsonl"
    assert hard(run(right, tmp_path / "out")) == 1.0
    other = annotations.read_text().replace('["a red thing"]', '["a blue thing"]')  # its file is edited
    annotations.write_text(other)
    assert hard(run(right, tmp_path / "out")) == 0.75
    assert "not run again" not in capsys.readouterr().out


def test_another_tokenizer_or_preprocessing_is_another_model(tiny_checkpoint, make_data, tmp_path):
    data, checkpoint = make_data("data"), tmp_path / "checkpoint"
    checkpoint.mkdir()
    for file in tiny_checkpoint.iterdir():
        if file.is_file():
            (checkpoint / file.name).write_bytes(file.read_bytes())
    command = ["--model", str(checkpoint), "--tasks", "fgovd", "--data", str(data), "--output", str(tmp_path / "out")]
    command += ["--task_options", "fgovd.subsets=hard"]
    main(command)
    config = json.loads((checkpoint / "processor_config.json").read_text())
    config["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]
    (checkpoint / "processor_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="made by other weights, another preprocessing or adapter"):
        main(command)


def test_an_allowed_gap_is_counted_and_not_kept_for_a_strict_run(make_data, tmp_path, capsys):
    data = make_data("data")
    (data / "coco/red.png").unlink()
    (data / "coco/blue.png").write_bytes(b"no image")
    lenient = run(data, tmp_path / "out", "--allow_missing")["fgovd"]
    assert (lenient.data["images_missing"], lenient.data["images_corrupt"]) == (1, 1)
    assert lenient.scores["hard"].count == 2
    assert "task fgovd: left out 1 missing and 1 unreadable images" in capsys.readouterr().out
    assert "left out 1 missing and 1 unreadable images" in (tmp_path / "out/report.md").read_text()
    (data / "coco/red.png").write_bytes((data / "coco/green.png").read_bytes())
    with pytest.raises(ValueError, match=r"blue\.png cannot be decoded"):
        run(data, tmp_path / "out")


def test_only_the_same_decisions_are_compared(make_data, tmp_path):
    right, wrong = make_data("right"), make_data("wrong", COLORS[1:] + COLORS[:1])
    moved = make_data("moved")  # the same images and captions at another place
    run(right, tmp_path / "first")
    run(wrong, tmp_path / "other", "--compare", str(tmp_path / "first"))
    report = (tmp_path / "other/report.md").read_text()
    assert "fgovd (hard) is not compared: the two runs decided on other images, boxes or texts" in report
    assert "p (Holm)" not in report
    run(moved, tmp_path / "second", "--compare", str(tmp_path / "first"), "--precision", "bfloat16")
    report = (tmp_path / "second/report.md").read_text()
    assert "p (Holm)" in report
    assert "fgovd was made with other settings: precision float32 → bfloat16" in report


def test_a_folder_holds_one_model_and_its_report_all_of_its_tasks(make_data, tiny_checkpoint, tmp_path):
    data = make_data("data")
    run(data, tmp_path / "out")
    other = ["--model", str(tiny_checkpoint), "--tasks", "fgovd", "--task_options", "fgovd.subsets=hard"]
    with pytest.raises(ValueError, match="Give another --output"):
        main([*other, "--data", str(data), "--output", str(tmp_path / "out")])
    second = tmp_path / "out/results/second.json"  # as a later run of another task leaves it
    second.write_text((tmp_path / "out/results/fgovd.json").read_text().replace('"fgovd"', '"second"'))
    run(data, tmp_path / "out", "--overwrite")
    assert set(json.loads((tmp_path / "out/results.json").read_text())) == {"fgovd", "second"}
    second.write_text(second.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(ValueError, match="results of several models"):
        write_report_again([str(tmp_path / "out")])


def test_a_model_has_the_name_of_today_in_the_whole_report(make_data, tmp_path):
    data = make_data("data")
    run(data, tmp_path / "out")
    run(data, tmp_path / "out", "--name", "My model")
    assert "# Zero-shot evaluation of My model" in (tmp_path / "out/report.md").read_text()
    assert "name: My model" in (tmp_path / "out/model-index.yml").read_text()


def test_overwriting_replaces_another_models_results_and_compares_with_them(make_data, tiny_checkpoint, tmp_path):
    data = make_data("data")
    run(data, tmp_path / "out")
    command = ["--model", str(tiny_checkpoint), "--tasks", "fgovd", "--task_options", "fgovd.subsets=hard"]
    command += [
        "--data",
        str(data),
        "--output",
        str(tmp_path / "out"),
        "--overwrite",
        "--compare",
        str(tmp_path / "out"),
    ]
    result = main(command)["fgovd"]
    report = (tmp_path / "out/report.md").read_text()
    change = 100 * (result.scores["hard"].value - 1.0)  # from the color model, which is always right
    assert change < 0
    assert f"| fgovd | hard | 100.0 | {100 + change:.1f} | {change:+.1f} |" in report


def test_a_subset_is_compared_with_the_same_subset_of_a_larger_run(make_data, tmp_path):
    data = make_data("data")
    hard = (data / "fgovd/h_attributes_llava.jsonl").read_text()
    (data / "fgovd/e_attributes_llava.jsonl").write_text(hard.replace('["a red thing"]', '["a blue thing"]'))
    run(data, tmp_path / "both", "--task_options", "fgovd.subsets=hard,easy")
    run(data, tmp_path / "one", "--compare", str(tmp_path / "both"))
    report = (tmp_path / "one/report.md").read_text()
    assert "| fgovd | hard | 100.0 | 100.0 | +0.0 |" in report
    run(data, tmp_path / "more", "--task_options", "fgovd.subsets=hard,easy", "--compare", str(tmp_path / "one"))
    assert "fgovd (easy) is not compared: the earlier run lacks it" in (tmp_path / "more/report.md").read_text()


def test_an_option_that_chooses_texts_is_other_data(tmp_path):
    records = {name: Phrases(expression=name) for name in ("short", "long")}
    assert records["short"]._choices() != records["long"]._choices()
    assert records["short"]._choices() == Phrases(data=tmp_path, root=tmp_path, hub="elsewhere")._choices()


def test_a_result_says_where_it_was_made(make_data, tmp_path):
    run(make_data("data"), tmp_path / "out", "--batch_size", "3")
    made = json.loads((tmp_path / "out/results.json").read_text())["fgovd"]["environment"]
    assert (made["torch"], made["processes"], made["batch size"]) == (torch.__version__, "1", "3")
    assert made["finished"].endswith("+00:00")
    assert made["batches"] == "3 computed, 0 cached"  # two of images, one of texts
    again = run(tmp_path / "data", tmp_path / "out", "--batch_size", "3", "--overwrite")["fgovd"]
    assert again.environment["batches"] == "0 computed, 3 cached"  # so its seconds are those of a repetition
    result = tmp_path / "out/results/fgovd.json"
    result.write_text(result.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    write_report_again([str(tmp_path / "out")])  # on another machine
    assert "| torch | 1.0 |" in (tmp_path / "out/report.md").read_text()


def test_faults_are_found_before_the_first_task_computes(make_data, tmp_path, monkeypatch):
    data = make_data("data")
    monkeypatch.setattr("eval.evaluation._run", lambda *_: pytest.fail("a task was run"))
    with pytest.raises(ValueError, match="task dci: no"):
        run(data, tmp_path / "out", "--tasks", "fgovd", "dci")
    easy = (data / "fgovd/h_attributes_llava.jsonl").read_text().replace("[0, 0, 64, 64]", "[80, 0, 9, 9]", 1)
    (data / "fgovd/e_attributes_llava.jsonl").write_text(easy)
    with pytest.raises(ValueError, match=r"task fgovd, easy, row 0, .*wholly outside"):
        run(data, tmp_path / "out", "--dry_run", "--task_options", "fgovd.subsets=hard,easy")
    monkeypatch.setattr("tests.eval.color_model.ColorModel.dense_kind", None)
    with pytest.raises(ValueError, match="has no region features from dense maps"):
        run(data, tmp_path / "out", "--dry_run")


def test_a_failing_task_leaves_the_report_of_those_before_it(make_data, tmp_path, paint):
    data = make_data("data")
    records = {"images": [], "annotations": [], "categories": []}
    (data / "boxes").mkdir()
    (data / "test/images").mkdir(parents=True)
    for number, color in enumerate(("red", "green")):
        paint(data / f"test/images/{color}.png", color)
        records["images"].append({"id": number, "file_name": f"{color}.png", "width": 64, "height": 64})
        box = {"image_id": number, "category_id": number, "bbox": [0, 0, 64, 64]}
        records["annotations"].append(box)
        records["categories"].append({"id": number, "name": color})
    (data / "boxes/instances_test.json").write_text(json.dumps(records))
    (data / "test/images/red.png").write_bytes(b"no image")  # there, so that only decoding shows it
    with pytest.raises(ValueError, match=r"red\.png cannot be decoded"):
        run(data, tmp_path / "out", "--tasks", "fgovd", "boxes")
    assert set(json.loads((tmp_path / "out/results.json").read_text())) == {"fgovd"}


def test_a_digest_knows_content_order_and_place(tmp_path, paint):
    file = ImageFile(paint(tmp_path / "a/x.png", "red"))
    copy = ImageFile(paint(tmp_path / "b/x.png", "red"))
    assert digest_of(file) != digest_of(copy)
    assert digest_of(file, portable=True) == digest_of(copy, portable=True)
    assert digest_of(["a", "bc"]) != digest_of(["ab", "c"]) != digest_of(["c", "ab"])
    assert digest_of([["a"], "b"]) != digest_of([["a", "b"]])
    assert digest_of(1) != digest_of("1") != digest_of(True)
    file.path.unlink()
    assert digest_of(file, portable=True) != digest_of(copy, portable=True)
    assert digest_of({"a", "b"}) == digest_of({"b", "a"}) != digest_of({"a"})
    assert digest_of(torch.ones(2)) != digest_of(torch.ones(2, 1)) != digest_of(torch.zeros(2, 1))
    with pytest.raises(TypeError, match="no digest of a object"):
        digest_of(object())
