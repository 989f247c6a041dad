"""Which attributes a hard negative changed, and the object of a caption; the examples are from FG-OVD."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dataset_scripts.attributes import kinds_of_words
from dataset_scripts.curation.language.attributes import load_vocabulary
from dataset_scripts.sample.vocabulary import COLOR_NAMES, MATERIALS
from eval.attributes import changed_attributes, object_class


@pytest.mark.parametrize(
    ("positive", "negative", "kinds"),
    [
        ("A light grey plastic pipe.", "A dark pink plastic pipe.", ["color"]),
        ("A light grey plastic pipe.", "A light grey text pipe.", ["material"]),  # what was lost decides
        ("A light grey plastic pipe.", "A light pink fabric pipe.", ["color", "material"]),
        ("A grey metal fan.", "A dark grey metal fan.", ["color"]),  # nothing was lost
        ("A blue-colored clock.", "A red-colored clock.", ["color"]),
        ("A napkin with orange and lightgrey color.", "A napkin with orange and pink color.", ["color"]),
        ("A basket with a woven pattern.", "A basket with a floral pattern.", ["pattern"]),
        ("A transparent glass cup.", "A opaque glass cup.", ["transparency"]),
        ("A medium-sized dog.", "A tiny dog.", ["size"]),
        ("A red dog.", "A red cat.", ["other"]),
    ],
)
def test_changed_attributes(positive, negative, kinds):
    assert changed_attributes(positive, negative) == kinds


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("A black plastic telephone with red buttons and a dark grey bezel.", "telephone"),
        ("A remote control made of grey plastic.", "remote control"),
        ("A white, fabric napkin.", "napkin"),
        ("A glass and plastic television set with a white bottom.", "television set"),
        ("A pair of scissors with a light grey and dark brown color.", "scissors"),
        ("A light grey handled knife with a black plastic handle.", "knife"),
        ("A white-colored clock.", "clock"),
        ("A newspaper made of paper.", "newspaper"),
        ("A dark grey glass (drink container) made of glass.", "glass"),
        ("A red striped leather back of a bench.", "back"),  # the documented limit of the rule
        ("", "other"),
    ],
)
def test_object_class(caption, name):
    assert object_class(caption) == name


def test_there_is_one_vocabulary():
    """Curation, the breakdown and the generated sample speak of the same attributes."""
    kinds = kinds_of_words()
    vocabulary = load_vocabulary()
    assert set(vocabulary.categories) < set(kinds.values())
    for name, category in vocabulary.categories.items():
        replaced = {word for word in category.values if re.fullmatch("[a-z]+", word)}
        # bronze and copper are put into captions as colors, and FG-OVD lists them as materials
        assert {word for word in replaced if kinds[word] != name} == (
            {"bronze", "copper"} if name == "color" else set()
        )
    assert {kinds[word] for color in COLOR_NAMES for word in color.split()} == {"color"}
    assert {kinds[word] for word in MATERIALS} == {"material", "pattern"}


def test_words_are_listed_in_one_file():
    """The words of a category stand together in no other file of the package."""
    root = Path(__file__).parents[2]
    texts = {
        path: path.read_text(encoding="utf-8")
        for folder in ("dataset_scripts", "eval", "training")
        for path in (root / folder).rglob("*")
        if path.suffix in (".py", ".yaml")
    }
    found = [
        path.name for path, text in texts.items() if all(word in text for word in ("rattan", "crochet", "velvet"))
    ]
    assert found == ["attributes.yaml"]
