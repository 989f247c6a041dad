"""The ablation: its table by hand, and a real run in miniature that resumes."""

from __future__ import annotations

import shutil

import pytest
import yaml

from eval.report.document import text_of
from eval.results import Result, Score
from training.ablation import RECIPES, VARIANTS, ablation_table, main, write_ablation


def result(value: float) -> Result:
    return Result("fgovd", {"hard": Score(value, 100, 1 / 11, control=0.1)})


def test_table_gives_mean_and_sample_deviation(tmp_path):
    scores = {"random": {"fgovd": [result(0.1), result(0.1)]}, "stage 1": {"fgovd": [result(0.2), result(0.4)]}}
    table = ablation_table(scores)
    assert table.header == ["task", "score", "random", "stage 1", "chance", "blind control"]
    assert [text_of(cell) for cell in table.rows[0]] == ["fgovd", "hard", "10.0 ± 0.0", "30.0 ± 14.1", "9.1", "10.0"]
    one = ablation_table({"stage 1": {"fgovd": [result(0.2)]}})
    assert text_of(one.rows[0][2]) == "20.0"  # one seed has no deviation
    markdown, _ = write_ablation(tmp_path, scores, "about")
    assert (
        "| + stage 2 (global, regional, hard) | 46.1 | 66.6 | 68.7 | 52.3 | 79.7 | 61.8 | 60.6 | 64.1 | 45.4 |"
        in markdown.read_text()
    )


def test_variants_are_those_of_table_6():
    assert [(v.start, v.regional, v.hard) for v in VARIANTS] == [
        ("random", 0.0, 0.0),
        ("stage_1", 0.0, 0.0),
        ("stage_1", 0.1, 0.0),
        ("stage_1", 0.1, 0.5),
    ]
    assert VARIANTS[1].start == VARIANTS[0].folder


def test_wrong_data_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="go together"):
        main(["--output", str(tmp_path), "--train_data", str(tmp_path)])
    with pytest.raises(SystemExit, match="has no jsonfiles"):
        main(["--output", str(tmp_path), "--train_data", str(tmp_path), "--test_data", str(tmp_path)])
    main(["--output", str(tmp_path), "--seeds", "7", "--dry_run"])
    assert capsys.readouterr().out.count("seed 7: ") == 4
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_in_miniature_resumes(tmp_path):
    recipes = {}
    for stage in ("stage1", "stage2"):
        settings = yaml.safe_load((RECIPES / f"tiny_{stage}.yaml").read_text())
        recipes[stage] = tmp_path / f"{stage}.yaml"
        recipes[stage].write_text(yaml.safe_dump(settings | {"per_device_train_batch_size": 16, "warmup_steps": 1}))
    command = [
        "--output",
        str(tmp_path / "out"),
        "--seeds",
        "0",
        "--images",
        "64",
        "--stage1_steps",
        "2",
        "--stage2_steps",
        "2",
    ]
    command += ["--stage1_recipe", str(recipes["stage1"]), "--stage2_recipe", str(recipes["stage2"])]
    main(command)
    folder = tmp_path / "out/seed_0"
    weights = {v.folder: (folder / v.folder / "model.safetensors").stat().st_mtime_ns for v in VARIANTS}
    table = (tmp_path / "out/ablation.md").read_text()
    assert "| fgovd | hard |" in table
    shutil.rmtree(folder / VARIANTS[2].folder / "results")  # stopped before its evaluation was over
    main(command)
    assert {v.folder: (folder / v.folder / "model.safetensors").stat().st_mtime_ns for v in VARIANTS} == weights
    assert (tmp_path / "out/ablation.md").read_text() == table
