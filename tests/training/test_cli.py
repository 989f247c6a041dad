from pathlib import Path

import pytest

from training import stage2
from training.arguments import Stage1Arguments, Stage2Arguments
from training.cli import parse_arguments

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*stage*.yaml"))
REQUIRED = ["--model_name_or_path", "m", "--train_data", "a", "b"]


def parse(stage, tmp_path, *arguments):
    return parse_arguments(stage, [*REQUIRED, "--output_dir", str(tmp_path), "--bf16", "False", *arguments])


def test_paper_defaults(tmp_path):
    _, data, first = parse(Stage1Arguments, tmp_path)
    _, _, second = parse(Stage2Arguments, tmp_path)
    assert data.train_data == ["a", "b"]
    assert (first.per_device_train_batch_size, first.learning_rate, first.weight_decay) == (384, 1e-4, 0.05)
    assert (first.warmup_steps, first.init_temperature, first.objective.uses_regions) == (200, 0.07, False)
    assert (second.per_device_train_batch_size, second.learning_rate, second.weight_decay) == (512, 1e-6, 0.001)
    assert {term.name: term.weight for term in second.objective.terms} == {"global": 1, "regional": 0.1, "hard": 0.5}
    assert (first.adam_beta1, first.adam_beta2) == (second.adam_beta1, second.adam_beta2) == (0.9, 0.98)


def test_command_line_wins_over_recipe(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_rate: 3.0e-4\nweight_decay: 0.2\nmodel_name_or_path: from_recipe\ntrain_data: [c]\n")
    model, data, arguments = parse_arguments(
        Stage1Arguments, ["--config", str(recipe), "--weight_decay", "0.3", "--bf16", "False", "--use_cpu"]
    )
    assert (model.model_name_or_path, data.train_data) == ("from_recipe", ["c"])
    assert (arguments.learning_rate, arguments.weight_decay) == (3e-4, 0.3)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_every_recipe_parses(recipe, tmp_path):
    stage = Stage1Arguments if "stage1" in recipe.name else Stage2Arguments
    # tf32 and tensorboard are what a GPU machine has.
    arguments = ["--config", str(recipe), "--tf32", "False", "--use_cpu", "--report_to", "none"]
    _, _, parsed = parse(stage, tmp_path, *arguments)
    assert parsed.objective.uses_regions == ("stage2" in recipe.name)


def test_unknown_option_is_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ValueError, match=r"learning_rat' on the command line.* --learning_rate"):
        parse(Stage1Arguments, tmp_path, "--learning_rat", "1")
    with pytest.raises(ValueError, match="--learning_rat"):
        parse(Stage1Arguments, tmp_path, "--learning_rat=1")


def test_unknown_key_of_a_recipe_is_refused(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("looses: [global]\n")
    with pytest.raises(ValueError, match=r"looses.*recipe.yaml.*losses"):
        parse(Stage2Arguments, tmp_path, "--config", str(recipe))


def test_missing_recipe_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no file.*tiny_stage2"):
        parse(Stage1Arguments, tmp_path, "--config", str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--fp16", "True", "bf16"),
        ("--auto_find_batch_size", "True", "gradient_caching"),
        ("--losses", "hard=-1", "from 0 on"),
        ("--losses", "hard=much", "as hard=0.5"),
        ("--losses", "hrad", "unknown loss 'hrad'; there are global, regional, hard"),
        ("--losses", "global=0", "no loss to minimize"),
        ("--max_scale", "0.5", "max_scale"),
        ("--init_temperature", "3", "init_temperature"),
    ],
)
def test_settings_that_cannot_train_are_refused(tmp_path, option, value, message):
    with pytest.raises(ValueError, match=message):
        parse(Stage2Arguments, tmp_path, option, value)


def test_recipes_by_name_and_dashes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, _, arguments = parse(Stage2Arguments, tmp_path, "--config", "tiny_stage2", "--max-steps", "7", "--use-cpu")
    assert (arguments.max_steps, arguments.objective.uses_regions) == (7, True)
    (tmp_path / "own.yaml").write_text("learning-rate: 2.0e-4\n")
    assert parse(Stage1Arguments, tmp_path, "--config", "own.yaml", "--use_cpu")[2].learning_rate == 2e-4


def test_help_is_ours_and_all_of_it_on_demand(capsys):
    for option, shown in (("--help", False), ("--help-all", True)):
        with pytest.raises(SystemExit) as ended:
            stage2.main([option])
        assert not ended.value.code
        text = capsys.readouterr().out
        assert "--optimizer_in_backward" in text
        assert "--learning_rate" in text
        assert ("--torch_empty_cache_steps" in text) == shown


def test_a_tracker_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("training.trackers.get_available_reporting_integrations", lambda: ["tensorboard"])
    parse(Stage1Arguments, tmp_path, "--use_cpu", "--report_to", "tensorboard")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("report_to: [tensorboard, wandb]\n")
    with pytest.raises(ValueError, match=r"--report_to wandb needs .*none.*'\.\[wandb\]'"):
        parse(Stage1Arguments, tmp_path, "--config", str(recipe), "--use_cpu")


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--report_to tensorbord is no tracker; there are .*tensorboard.* none"):
        parse(Stage1Arguments, tmp_path, "--use_cpu", "--report_to", "tensorbord")


def test_recipes_warn_of_nothing(tmp_path, recwarn):
    parse(Stage2Arguments, tmp_path, "--config", "lora_stage2_vit_b16", "--use_cpu")
    assert not recwarn
