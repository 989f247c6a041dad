"""Recipes and the command line."""

from pathlib import Path

import pytest

from dataset_scripts.curation.__main__ import main
from dataset_scripts.curation.engine.recipe import load_recipe, make_recipe


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "no steps"),
        ({"steps": {"cook": {}}}, "steps is"),
        ({"steps": {"expressions": {"max_word": 3}}}, "has no max_word; there are"),
        ({"steps": {"expressions": {"max_words": "three"}}}, "max_words is 'three'; it must be int"),
        ({"steps": {"grounding": {}}}, "grounding, which reads expressions, .* add `expressions:`"),
        ({"steps": {"expressions": {}}, "engine": "x"}, r"unknown keys \['engine'\]"),
        ({"steps": {"expressions": {}}, "shard_size": 0}, "shard_size is 0"),
        ({"steps": {"recaption": {"chat": {"model": "m", "base_url": "http://x", "key": "k"}}}}, "has no key"),
        ({"steps": {"expressions": {}}, "resources": {"cook": {}}}, "resources names"),
    ],
)
def test_recipes_are_checked(raw, message):
    with pytest.raises(ValueError, match=message):
        make_recipe(raw)


def test_published_recipes_load_and_changes_go_over_them():
    folder = Path(__file__).parents[4] / "dataset_scripts" / "curation" / "recipes"
    for path in folder.glob("*.yaml"):
        recipe = load_recipe(path, ["shard_size=7", "expressions.max_words=9", "seed=3"])
        assert (recipe.shard_size, recipe.steps["expressions"].max_words, recipe.steps["negatives"].seed) == (7, 9, 3)
    with pytest.raises(ValueError, match="name=value"):
        load_recipe(folder / "text.yaml", ["seed"])


def test_command_line(finehard, tmp_path, capsys):
    arguments = ["--recipe", "text", "--input", str(finehard), "--output", str(tmp_path / "o"), "--workers", "1"]
    main([*arguments, "--dry-run"])
    main([*arguments, "--steps", "expressions", "--set", "expressions.max_words=9", "seed=3"])
    assert "10 captions" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"--steps names \['grounding'\]"):
        main([*arguments, "--steps", "grounding"])
    with pytest.raises(SystemExit):
        main([*arguments, "--color", "red"])
