"""From a language model's answer to candidate negatives, whatever shape the answer has.

The answer asked for is ``{"negatives": ["…"]}``. Models also fence it, introduce it, number lines, or stop half-way;
what can be told apart surely is taken, anything else is a named failure. Nothing here raises, and nothing here decides
that a candidate is good: that is :class:`~.checks.NegativeChecker`'s part.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..language.text import clean
from .answers import is_refusal
from .structured import json_values

_FENCE = re.compile(r"```(?:[a-zA-Z]*)\s*(.*?)(?:```|\Z)", re.DOTALL)
_LIST_ITEM = re.compile(r"(?:\(?\d{1,3}\s*[.):\]]|[-*•–])\s+(.+)")
_QUOTES = "\"'“”‘’`"
MAX_ANSWER = 100_000  # characters; a longer one is a loop
_MAX_CANDIDATES = 100
# Keys under which models put a whole text; any other object is a list of attributes ({"color": "red"}), no text.
_TEXT_KEYS = {"caption", "description", "expression", "negative", "phrase", "text", "version"}
_OBJECTS = "objects in place of texts"


class ParsedAnswer(NamedTuple):
    """Candidates in the answer's order, cleaned; `failure` names why there are none."""

    candidates: list[str]
    failure: str | None


def parse_negatives(answer: str | None) -> ParsedAnswer:
    """Read the candidates of one answer.

    Failures: "empty answer", "refusal", "answer too long", "objects in place of texts", "no list in answer".
    """
    if not answer or not answer.strip():
        return ParsedAnswer([], "empty answer")
    if len(answer) > MAX_ANSWER:
        return ParsedAnswer([], "answer too long")
    fence = _FENCE.search(answer)
    failure = "refusal" if is_refusal(answer) else "no list in answer"
    for text in ([fence.group(1)] if fence else []) + [answer]:
        for value in json_values(text):
            items = _items(value)
            found = _tidied([item for item in map(_text, items) if item is not None])
            if found:
                return ParsedAnswer(found, None)
            if any(isinstance(item, (dict, list)) for item in items):
                return ParsedAnswer([], _OBJECTS)
        found = _tidied(_lines(text))
        if found:
            return ParsedAnswer(found, None)
    return ParsedAnswer([], failure)


def _items(value: Any) -> list[Any]:
    """The list in {"negatives": […]}, […], {"0": …, "1": …} or another object with one list in it."""
    if isinstance(value, list):
        return value
    if isinstance(value.get("negatives"), (list, dict)):
        return _items(value["negatives"])
    if value and all(key.isdigit() for key in value):
        return list(value.values())
    lists = [v for v in value.values() if isinstance(v, list)]
    return lists[0] if len(lists) == 1 else []


def _text(item: Any) -> str | None:
    """A text, or that of {"text": "…"}."""
    if isinstance(item, dict) and len(item) == 1:
        ((key, item),) = item.items()
        if key.casefold() not in _TEXT_KEYS:
            return None
    return item if isinstance(item, str) else None


def _lines(text: str) -> list[str]:
    """The items of a numbered or bulleted list; at least two, so that a sentence with a dash is none."""
    items = [match.group(1) for line in text.splitlines() if (match := _LIST_ITEM.fullmatch(line.strip()))]
    return items if len(items) > 1 else []


def _tidied(candidates: list[str]) -> list[str]:
    return [text for text in map(_tidy, candidates[:_MAX_CANDIDATES]) if text]


def _tidy(candidate: str) -> str:
    """Without quotes, a trailing comma of the list and what the paper removes."""
    text = candidate.strip().rstrip(",").strip()
    while len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text[1:-1].strip()
    text = "".join(c for c in text if c.isprintable() or c.isspace())
    return clean(text).rstrip(".").strip() if not text.endswith("...") else clean(text)
