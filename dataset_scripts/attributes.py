"""The one vocabulary of attributes: which words name a color, a material, a pattern …; see attributes.yaml beside this file."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from dataset_scripts.formats.files import read_yaml

VOCABULARY = Path(__file__).with_name("attributes.yaml")


@cache
def kinds_of_words() -> dict[str, str]:
    """The kind of each single word: "grey" → "color". Words that are listed as such go before values of another kind."""
    categories = {
        name: entry for name, entry in read_yaml(VOCABULARY).items() if isinstance(entry, dict)
    }  # others list exceptions
    kinds = {
        word: name
        for name, entry in categories.items()
        for word in entry.get("values", ())
        if re.fullmatch("[a-z]+", word)
    }
    return kinds | {word: name for name, entry in categories.items() for word in entry.get("words", "").split()}
