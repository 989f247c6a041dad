"""What a caption and its hard negative differ in (color, material, pattern, transparency, size, position), and of which
object a caption speaks."""

from __future__ import annotations

import re
from collections import Counter

from dataset_scripts.attributes import kinds_of_words

KINDS = kinds_of_words()
_WORD = re.compile(r"[a-z]+")  # "blue-colored" is two words

# A leading noun phrase ends before the first of these.
_PHRASE_END = re.compile(
    r"[.;:()]|\b(?:with|of|in|on|at|by|to|for|from|that|which|where|whose|has|have|having|is|are|made|featuring|decorated"
    r"|attached|includes|used|worn|covered)\b"
)
_NO_NAME = {"a", "an", "the", "pair", "piece", "color", "colour", "rimmed", "handled", "patterned"}


def changed_attributes(positive: str, negative: str) -> list[str]:
    """Which kinds of attribute tell a hard negative from its caption.

    The words that the positive lost decide: FG-OVD replaces a value by one of another list as well ("leather" by "text"),
    so the words that the negative gained would name a kind nobody changed. They decide only where the positive lost
    none ("grey" became "dark grey").

    Returns:
        The kinds, sorted; several when attributes of several kinds were replaced. ["other"] when no changed word is an
        attribute (an object, a verb).
    """
    first, second = (Counter(_WORD.findall(text.lower())) for text in (positive, negative))
    lost = {KINDS[word] for word in first - second if word in KINDS}
    gained = {KINDS[word] for word in second - first if word in KINDS}
    return sorted(lost or gained or {"other"})


def object_class(caption: str) -> str:
    """The object a caption speaks of: the noun that ends its leading noun phrase, without attributes.

    The leading noun phrase ends before the first of with, of, in, on, that, which, has, is, made … or a full stop ("pair of" and
    "piece of" do not end it). Of its parts between commas and "and", the first that does not end with an attribute counts:
    "A white, fabric napkin with …" is a napkin. Its words after the last attribute are the object: "A black plastic remote
    control" is a "remote control". It is a rule, not a parser; a caption that begins with a part ("A black strap attached
    to a belt") counts for the part.
    """
    text = re.sub(r"\b(?:pair|piece) of\b", " ", caption.lower())
    phrase = _PHRASE_END.split(text, maxsplit=1)[0]
    for part in re.split(r",|\band\b", phrase):
        name: list[str] = []
        for word in reversed(_WORD.findall(part)):
            if word in KINDS or word in _NO_NAME:
                break
            name.insert(0, word)
        if name:
            return " ".join(name)
    words = [word for word in _WORD.findall(phrase) if word not in _NO_NAME]
    return words[-1] if words else "other"  # "A glass.": the object is named like a material
