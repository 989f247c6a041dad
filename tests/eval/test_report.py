"""Reports: the paper's rows and differences, comparison of runs, escaping, and the Hub's model-index."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from eval.__main__ import main as evaluate_main
from eval.report.__main__ import main
from eval.report.content import beside_paper, comparison, holm, report, task_section
from eval.report.document import Table, text_of
from eval.report.html import to_html
from eval.report.markdown import to_markdown
from eval.report.model_index import model_index_yaml
from eval.report.paper import PAPER
from eval.report.paper_fgclip2 import PAPER_FGCLIP2
from eval.report.table import comparison_table, results_table
from eval.results import Result, Score, load_result, save_result, write_results
from eval.tasks import TASKS


def make_result(value: float = 0.5, correct: np.ndarray | None = None, model: str = "mine") -> Result:
    correct = np.array([1, 0], np.uint8) if correct is None else correct
    return Result(
        task="fgovd",
        scores={
            "hard": Score(value, len(correct), 1 / 11, control=0.1, control_std=0.01, low=0.4, high=0.6, ties=3),
            "medium": Score(0.666, 2968, 1 / 11),
        },
        breakdown={"color": {"hard": Score(0.7, 12, 0.2)}},
        settings={"model": model, "resolution": "224×224", "run": "abc"},
        data={"rows_hard": len(correct)},
        data_digests={"": f"{len(correct)} rows"},
        environment={"torch": "2.0", "finished": "2026-01-01T00:00:00+00:00"},
        seconds=1.5,
        outcomes={"hard": correct},
        groups={"hard": np.arange(len(correct))},
    )


def test_results_survive_the_disk_without_pickle(tmp_path):
    result = make_result()
    save_result(result, tmp_path, "fgovd")
    loaded = load_result(tmp_path, "fgovd")
    assert loaded == result
    np.testing.assert_array_equal(loaded.outcomes["hard"], result.outcomes["hard"])
    np.testing.assert_array_equal(loaded.groups["hard"], result.groups["hard"])
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    write_results({"fgovd": result}, tmp_path / "all.json")
    assert json.loads((tmp_path / "all.json").read_text())["fgovd"]["scores"]["hard"]["control"] == 0.1
    (tmp_path / "fgovd.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a result written by"):
        load_result(tmp_path, "fgovd")


def test_paper_tables_are_whole_and_say_what_the_paper_says():
    for task, tables in PAPER.items():
        for table in tables:
            assert all(len(values) == len(table.columns) for values in table.rows.values()), task
    assert PAPER["fgovd"][0].rows["FG-CLIP", "ViT-L/14"] == (48.4, 69.5, 71.2, 89.7)
    assert PAPER["fgovd"][0].rows["FineCLIP", "ViT-B/16"] == (26.8, 49.8, 50.4, 71.9)
    assert PAPER["coco_boxes"][0].rows["RegionCLIP", "ViT-B/16"] == (40.0,)
    assert PAPER["coco_boxes"][1].rows["+ stage 2 (global, regional)", "ViT-B/16"] == (53.7, 81.2)
    assert PAPER["dci"][0].rows["Long-CLIP", "ViT-L/14"] == (44.2, 52.5)
    assert PAPER["flickr30k"][0].rows["FineCLIP", "ViT-L/14"] == (None, None)
    assert PAPER["imagenet_v2"][0].rows["EVA-CLIP", "ViT-L/14"] == (73.8,)


def test_fgclip2s_tables_are_whole_and_agree_with_fgclips_where_both_have_a_row():
    for task, tables in PAPER_FGCLIP2.items():
        assert task in TASKS
        for table in tables:
            assert all(len(row) == len(table.columns) for row in table.rows.values())
            older = {
                row for other in PAPER.get(task, []) if other.columns == table.columns for row in other.rows.items()
            }
            assert all(table.rows.get(method, row) == row for method, row in older if method[0] != "SigLIP 2")
    assert PAPER_FGCLIP2["fgovd"][0].rows["FG-CLIP 2", "ViT-So/16"] == (54.0, 77.4, 79.8, 93.5)
    assert PAPER_FGCLIP2["boxclass_cn"][0].rows["FG-CLIP 2", "ViT-L/16"] == (68.6,)
    assert PAPER_FGCLIP2["lvis_boxes"][0].rows["CLOC", "ViT-L/14"] == (32.6,)
    assert PAPER_FGCLIP2["dci"][0].rows["FG-CLIP 2", "ViT-B/16"] == (64.5, 64.9)
    assert PAPER_FGCLIP2["imagenet"][0].rows["FG-CLIP 2", "ViT-L/16"] == (83.0,)
    assert PAPER_FGCLIP2["imagenet"][0].rows["UMG-CLIP", "ViT-L/14"] == (None,)
    assert PAPER_FGCLIP2["docci_cn"][0].rows["FG-CLIP 2", "ViT-B/16"] == (71.2, 75.4)
    assert PAPER_FGCLIP2["coco_cn"][0].rows["Meta CLIP 2", "ViT-H/14"] == (80.1, 63.1)


def test_a_run_of_fgclip2_and_a_chinese_task_are_beside_fgclip2s_paper():
    def captions(**changes) -> str:
        result = replace(make_result(), **changes)
        return " ".join(part.caption for part in task_section("run", result).parts if isinstance(part, Table))

    assert "table 1 of FG-CLIP 2's paper" in captions(settings={"architecture": "FG-CLIP 2"})
    assert "table 1 of the paper" in captions(settings={"architecture": "FG-CLIP"})
    assert "table 5 of FG-CLIP 2's paper" in captions(task="lit_cn")
    table = beside_paper(make_result(), PAPER_FGCLIP2["fgovd"][0])
    assert [row[1] for row in table.rows if row[0] == "difference"] == [
        "to FG-CLIP 2 ViT-B/16", "to FG-CLIP 2 ViT-L/16", "to FG-CLIP 2 ViT-So/16"
    ]  # fmt: skip


def test_beside_paper_gives_the_difference_to_each_backbone():
    table = beside_paper(make_result(), PAPER["fgovd"][0])
    rows = [[text_of(cell) for cell in row] for row in table.rows]
    assert rows[4] == ["FG-CLIP", "ViT-B/16", "46.1", "66.6", "68.7", "83.4"]
    assert rows[-3] == ["mine", "this run", "50.0", "66.6", "–", "–"]
    assert rows[-2] == ["difference", "to FG-CLIP ViT-B/16", "+3.9", "+0.0", "–", "–"]
    assert rows[-1] == ["difference", "to FG-CLIP ViT-L/14", "+1.6", "-2.9", "–", "–"]
    assert table.own == {10}
    assert table.caption.endswith("NOT COMPARABLE, this run has other data: hard 2 instead of 3,545")
    whole = make_result(correct=np.zeros(3545, np.uint8))
    assert beside_paper(whole, PAPER["fgovd"][0]).caption == "Beside table 1 of the paper"


def test_holm_corrects_as_defined():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_comparison_finds_a_real_difference_and_no_other():
    random = np.random.default_rng(0)
    before = (random.random(400) < 0.5).astype(np.uint8)
    better = np.maximum(before, (random.random(400) < 0.3).astype(np.uint8))
    flipped = np.where(random.random(400) < 0.1, 1 - before, before).astype(np.uint8)  # as many lost as won
    for after, significant in ((better, "yes"), (flipped, "no")):
        section = comparison({"fgovd": make_result(0.5, before)}, {"fgovd": make_result(0.6, after, "new")})
        row = [text_of(cell) for cell in section.parts[1].rows[0]]
        assert row[-1] == significant
        assert float(row[4]) == pytest.approx(100 * (after.mean() - before.mean()), abs=0.06)
    assert "From mine to new" in section.parts[0]
    other_data = comparison({"fgovd": make_result(0.5, before[:9])}, {"fgovd": make_result(0.5, before)})
    assert other_data.parts == ["fgovd (hard) is not compared: the two runs decided on other images, boxes or texts."]
    early = make_result(0.5, before)
    early.data_digests = {}
    assert "made by an earlier version" in comparison({"fgovd": early}, {"fgovd": make_result(0.5, before)}).parts[0]
    fewer, more = make_result(0.5, before), make_result(0.5, before)
    more.outcomes["easy"], more.groups["easy"], more.scores["easy"] = before, np.arange(400), more.scores["hard"]
    section = comparison({"fgovd": fewer}, {"fgovd": more})
    assert len(section.parts[1].rows) == 1
    assert section.parts[2] == "fgovd (easy) is not compared: the earlier run lacks it."
    alone = comparison({}, {"fgovd": make_result(0.5, before)})
    assert alone.parts == ["fgovd is not compared: the earlier run lacks it."]
    finer = make_result(0.5, before)
    finer.settings["resolution"] = "336×336"
    remarks = comparison({"fgovd": make_result(0.5, before)}, {"fgovd": finer}).parts[2:]
    assert remarks == ["fgovd was made with other settings: resolution 224×224 → 336×336."]


def test_boxes_are_marked_as_partial_and_shown_by_both_readings_of_the_paper():
    scores = {"top1": Score(0.5, 9, 0.01), "top1_class_mean": Score(0.4, 3, 0.01)}
    result = Result("coco_boxes", scores, settings={"model": "mine"}, data={"boxes_skipped_crowd": 3})
    table = beside_paper(result, PAPER["coco_boxes"][0])
    rows = [[text_of(cell) for cell in row] for row in table.rows]
    assert rows[-4:-2] == [["mine", "this run", "50.0"], ["mine", "this run, class mean", "40.0"]]
    assert rows[-2] == ["difference", "to FG-CLIP ViT-B/16", "-2.3"]
    assert len(table.own) == 2
    assert "NOT COMPARABLE, this run has other data: top1 12 instead of 36,781" in table.caption
    assert "leaves open whether its accuracy is over boxes" in table.caption
    scores["top1"].count = 36_778
    assert "NOT COMPARABLE" not in beside_paper(result, PAPER["coco_boxes"][0]).caption


def test_tasks_of_different_machines_are_told_apart():
    first, second = make_result(), make_result()
    document = report({"a": first, "b": second})
    assert [table.rows for table in document.sections[-1].parts] == [[["torch", "2.0"]]]
    second.environment = {"torch": "2.1"}
    tables = report({"a": first, "b": second}).sections[-1].parts
    assert [(table.caption, table.rows) for table in tables] == [("a", [["torch", "2.0"]]), ("b", [["torch", "2.1"]])]


class _Balanced(HTMLParser):
    """Collects text, and fails on tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_html_is_balanced_self_contained_and_escapes_what_data_says():
    hostile = make_result(model="<script>alert(1)</script> | *x*")
    document = report({"fgovd": hostile})
    page = to_html(document)
    parser = _Balanced()
    parser.feed(page)
    assert parser.open == []
    assert parser.links == []  # nothing is fetched
    assert "<script" not in page
    assert "<script>alert(1)</script> | *x*" in parser.texts
    assert "50.0" in parser.texts
    assert 'content="width=device-width' in page
    markdown = to_markdown(document)
    assert "<script" not in markdown
    widths = {line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("| fgovd")}
    assert widths == {9}


def test_tables_for_the_terminal():
    text = results_table({"fgovd": make_result()})
    assert "50.0" in text
    assert "10.0 ± 1.0" in text
    both = comparison_table(
        {"random": {"fgovd": make_result(0.1)}, "stage 1": {"fgovd": make_result(0.3)}, "empty": {}}
    )
    line = next(line for line in both.splitlines() if " hard " in line)
    assert line.split() == ["fgovd", "hard", "10.0", "30.0", "–", "9.1", "10.0", "±", "1.0"]


def test_model_index_is_what_the_hub_reads():
    content = model_index_yaml({"fgovd": make_result()}, "me/model")
    parsed = yaml.safe_load(content)["model-index"][0]
    assert parsed["name"] == "me/model"
    assert parsed["results"][0]["metrics"][0]["value"] == 50.0
    assert parsed["results"][0]["task"]["type"] == TASKS["fgovd"].hub_task == "zero-shot-image-classification"
    assert {TASKS[name].hub_task for name in ("retrieval", "flickr30k", "dci")} == {"zero-shot-retrieval"}
    card = ModelCard(f"---\n{content}---\n# me/model\n")
    assert [entry.metric_value for entry in card.data.eval_results] == [50.0, 66.6]


def test_report_of_finished_runs(tmp_path, tiny_checkpoint, capsys):
    for run, value in (("one", 0), ("two", 1)):
        save_result(make_result(value, np.full(50, value, np.uint8)), tmp_path / run / "results", "fgovd")
    paths = main([str(tmp_path / "two"), "--compare", str(tmp_path / "one"), "--output", str(tmp_path / "report")])
    assert [path.name for path in paths] == ["results.json", "report.md", "report.html", "model-index.yml"]
    assert (
        "| fgovd | hard | 0.0 | 100.0 | +100.0 | +100.0 … +100.0 | &lt; 0.001 | yes |"
        in (tmp_path / "report/report.md").read_text()
    )
    with pytest.raises(ValueError, match="holds no results"):
        main([str(tmp_path / "nothing")])
    with pytest.raises(ValueError, match="holds no results"):  # noticed before the work
        evaluate_main(
            [
                "--model",
                str(tiny_checkpoint),
                "--tasks",
                "fgovd",
                "--output",
                str(tmp_path),
                "--compare",
                str(tmp_path / "nothing"),
            ]
        )
