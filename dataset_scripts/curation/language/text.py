"""Small text helpers that several steps share."""

from __future__ import annotations

import hashlib
import random
import re

_DETERMINER = re.compile(r"^(?:an?|the|some|this|that|these|those)\s+", re.IGNORECASE)
_SEPARATORS = re.compile(r"[;,]")
_SPACE_BEFORE = re.compile(r" (['’](?:s|re|t|m|ll|ve|d)\b|[.!?%)\]])")
_HYPHEN = re.compile(r"(\w) ?- ?(\w)")


def clean(text: str) -> str:
    """`text` on one line without semicolons, commas and line breaks (paper, section 3.2), single-spaced."""
    return _SPACE_BEFORE.sub(r"\1", " ".join(_SEPARATORS.sub(" ", text).split()))


def is_clean(text: str) -> bool:
    """Whether :func:`clean` has nothing to remove."""
    return not re.search(r"[;,\r\n]", text) and text == text.strip()


def join_hyphens(text: str) -> str:
    """ "t - shirt" → "t-shirt": spaCy and tokenized captions set hyphens apart."""
    return _HYPHEN.sub(r"\1-\2", text)


def normalized(text: str) -> str:
    """A key under which two writings of the same phrase meet: no determiner, no case, no final full stop."""
    return _DETERMINER.sub("", clean(text).rstrip(". ")).casefold()


def seeded(seed: int, *parts: object) -> random.Random:
    """A generator that depends on `seed` and `parts` alone, never on the order or the number of processes."""
    digest = hashlib.sha256("\x1f".join([str(seed), *map(str, parts)]).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))
