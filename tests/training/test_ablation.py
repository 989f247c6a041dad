"""The ablation: its table by hand, and a real run in miniature that resumes."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import yaml

from eval.report.document import text_of
from eval.results import Result, Score
from training.ablation import runs
from training.ablation.__main__ import main
from training.ablation.setup import RECIPES, SETUP_FILE
from training.ablation.table import ablation_table, write_ablation
from training.ablation.variants import TABLE_6, TABLE_8, TABLES
from training.objective import parse_losses


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


PEERS = ["CLIPSelf", "Long-CLIP", "FineCLIP", "FG-CLIP", "FG-CLIP regional=1"]


def test_variants_are_those_of_the_tables():
    assert [variant.losses for variant in TABLE_6] == [
        ("global",),
        ("global",),
        ("global", "regional"),
        ("global", "regional", "hard"),
    ]
    assert [variant.name for variant in TABLE_8[1:]] == PEERS
    for first, *others in TABLES.values():
        assert {variant.start for variant in others} == {first.folder}
    fineclip = {term.name: term.weight for term in parse_losses(TABLE_8[3].losses)}
    assert fineclip == {"global": 1, "regional": 1, "self_distillation": 1}


def test_the_papers_table_8_is_printed_below(tmp_path):
    markdown, _ = write_ablation(tmp_path, {"FineCLIP": {"fgovd": [result(0.2)]}}, "about", 8)
    assert "| FG-CLIP, stage 2 alone | 56.1 | 65.9 | 47.1 |" in markdown.read_text()


def test_wrong_data_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(ValueError, match="go together"):
        main(["--output", str(tmp_path), "--train_data", str(tmp_path)])
    with pytest.raises(ValueError, match="has no jsonfiles"):
        main(["--output", str(tmp_path), "--train_data", str(tmp_path), "--test_data", str(tmp_path)])
    main(["--output", str(tmp_path), "--seeds", "7", "--dry_run"])
    assert capsys.readouterr().out.count("seed 7: ") == 4
    main(["--output", str(tmp_path), "--seeds", "7", "--table", "8", "--dry_run"])
    assert "seed 7: FineCLIP from stage_1, global regional=1 self_distillation, on" in capsys.readouterr().out
    main(["--output", str(tmp_path), "--seeds", "7", "--table", "8", "--start", "openai/clip", "--dry_run"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"seed 7: {name} from openai/clip" for name in PEERS]
    with pytest.raises(ValueError, match="--stage1_steps is for"):
        main(["--output", str(tmp_path), "--start", "openai/clip", "--stage1_steps", "7"])
    with pytest.raises(ValueError, match="--test_limit goes with --test_data"):
        main(["--output", str(tmp_path), "--test_limit", "7"])
    assert not any(tmp_path.iterdir())


@pytest.fixture
def data(tmp_path):
    """Two folders in FineHARD's layout, as far as the setup looks at them."""
    for split in ("train", "dev", "other"):
        (tmp_path / split / "jsonfiles").mkdir(parents=True)
        (tmp_path / split / "jsonfiles" / "0.json").write_text(f'[{{"caption": "{split:>5}"}}]')
    return tmp_path


@pytest.fixture
def command(data, monkeypatch):
    """command(*options) runs the ablation with a training of no time, and returns the seeds of its table."""
    seen = []

    def of_seed(setup, seed):
        (setup.output / f"seed_{seed}" / "stage_1").mkdir(parents=True, exist_ok=True)
        seen.append(seed)
        return {name: {"fgovd": result(0.1 * seed)} for name in ("random", *(v.name for v in setup.variants))}

    monkeypatch.setattr(runs, "run_seed", of_seed)

    def run(*options: str) -> list[int]:
        seen.clear()
        own = ["--train_data", data / "train", "--test_data", data / "dev", *options]
        main(["--output", str(data / "out"), *map(str, own)])
        return list(seen)

    return run


def test_seeds_may_grow_in_any_order(command, data):
    for seeds in ([0, 1], [2], [0, 1, 2]):
        assert command("--seeds", *seeds) == seeds
    assert "seeds so far: 0, 1, 2" in (data / "out/ablation.md").read_text()


def test_another_setup_is_refused_with_what_differs(command, data, tmp_path):
    command("--seeds", 0)
    recipe = yaml.safe_load((RECIPES / "flickr8k_stage2.yaml").read_text())
    changed = tmp_path / "stage2.yaml"
    changed.write_text(yaml.safe_dump(recipe | {"learning_rate": 0.125}))
    for options, named in (
        (["--test_data", data / "other"], r"\(test_data was \w+, is \w+\)"),
        (["--table", 8], r"\(variants.stage 2 global.start was stage_1, is not set;.*"),
        (["--stage1_steps", 7], r"\(stage1.max_steps was .*, is 7\)"),
        (["--stage2_recipe", changed], r"\(stage2.learning_rate was .*, is 0.125\)"),
        (["--stage2_recipe", changed, "--dry_run"], r"\(stage2.learning_rate was .*, is 0.125\)"),
    ):
        with pytest.raises(
            ValueError, match=rf"holds models and results of another setup {named}. Take another --output"
        ):
            command("--seeds", 0, *options)
    assert command("--seeds", 0, "--stage2_recipe", RECIPES / "flickr8k_stage2.yaml") == [0]  # the same, spelled out
    annotations = data / "train/jsonfiles/0.json"
    annotations.write_text(annotations.read_text().replace("train", "brain"))  # as long as before
    with pytest.raises(ValueError, match="train_data was"):
        command("--seeds", 0)


def test_a_folder_may_move_with_its_data(command, data):
    command("--seeds", 0)
    for name in ("train", "dev"):
        (data / name).rename(data / f"{name}_moved")
    moved = ["--train_data", data / "train_moved", "--test_data", data / "dev_moved"]
    assert command("--seeds", 0, *moved) == [0]


def test_a_folder_of_an_earlier_version_is_taken_with_a_warning(command, data, caplog):
    command("--seeds", 0)
    noted = json.loads((data / "out" / SETUP_FILE).read_text())
    (data / "out" / SETUP_FILE).unlink()
    with caplog.at_level(logging.WARNING):
        assert command("--seeds", 0, 1) == [0, 1]
    assert "begun by an earlier version" in caplog.text
    assert json.loads((data / "out" / SETUP_FILE).read_text()) == noted


def test_wrong_steps_seeds_and_recipes(command, tmp_path):
    for options, message in (
        (["--stage1_steps", 0], "at least 1; got 0"),
        (["--seeds", 1, 2, 1], "must differ; got 1"),
        (["--model_recipe", tmp_path / "none.yaml"], "none.yaml, which is no file"),
    ):
        with pytest.raises(ValueError, match=message):
            command(*options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", TABLES)
def test_a_run_in_miniature_resumes(tmp_path, number):
    recipes = {}
    for stage in ("stage1", "stage2"):
        settings = yaml.safe_load((RECIPES / f"tiny_{stage}.yaml").read_text())
        recipes[stage] = tmp_path / f"{stage}.yaml"
        recipes[stage].write_text(yaml.safe_dump(settings | {"per_device_train_batch_size": 16, "warmup_steps": 1}))
    command = [
        "--table",
        str(number),
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
    weights = {v.folder: (folder / v.folder / "model.safetensors").stat().st_mtime_ns for v in TABLES[number]}
    table = (tmp_path / "out/ablation.md").read_text()
    assert "| fgovd | hard |" in table
    shutil.rmtree(folder / TABLES[number][2].folder / "results")  # stopped before its evaluation was over
    main(command)
    assert {v.folder: (folder / v.folder / "model.safetensors").stat().st_mtime_ns for v in TABLES[number]} == weights
    assert (tmp_path / "out/ablation.md").read_text() == table
