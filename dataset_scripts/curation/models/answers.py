"""Whether a model's caption is one: refusals, empty, cut-off and looping answers are named failures."""

from __future__ import annotations

import re
from collections import Counter

_REFUSAL = re.compile(
    r"\b(?:i(?:'|’)?m (?:sorry|unable|not able|afraid)|i am (?:sorry|unable|not able|afraid)|"
    r"(?:i )?(?:can(?:'|’)?t|cannot|can not|won(?:'|’)?t|will not|could not|couldn(?:'|’)?t) "
    r"(?:assist|help|comply|fulfil|fulfill|provide|see|view|describe|access|process|generate|create|write|do that|with)|"
    r"as an? (?:ai|language model|large language model)|"
    r"(?:do not|don(?:'|’)?t|did not|didn(?:'|’)?t) (?:see|have|receive)(?: access to)? (?:an|any|the) (?:image|picture|photo)|"
    r"no image (?:was|has been|is) (?:provided|attached|given)|please (?:provide|upload|share) (?:an|the|your) (?:image|picture|photo)|"
    r"against (?:my|our) (?:policy|policies|guidelines))\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]?(?=\s|$)")
_LOOP = 4  # times that six words in a row may occur


def is_refusal(answer: str) -> bool:
    """Whether the answer begins by declining; a caption that quotes a sign saying "sorry" does not."""
    return bool(_REFUSAL.search(answer.strip()[:200]))


def judge_caption(answer: str | None, min_words: int = 5) -> str | None:
    """None for a usable caption, else "empty answer", "refusal", "too short" or "repetition"."""
    text = (answer or "").strip()
    if not text:
        return "empty answer"
    if is_refusal(text):
        return "refusal"
    words = text.casefold().split()
    if len(words) < min_words:
        return "too short"
    runs = Counter(zip(*(words[i:] for i in range(6)), strict=False))
    if runs and max(runs.values()) >= _LOOP:
        return "repetition"
    return None


def whole_sentences(text: str) -> str:
    """`text` up to its last finished sentence: what to keep of an answer cut off at the token limit; maybe nothing."""
    ends = list(_SENTENCE_END.finditer(text))
    return text[: ends[-1].end()] if ends else ""


def tidy_caption(text: str) -> str:
    """On one line, without the quotes or the "Caption:" that models put around it."""
    text = " ".join(text.split())
    text = re.sub(r"^(?:(?:long |detailed )?(?:caption|description|answer)\s*:\s*)", "", text, flags=re.IGNORECASE)
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
