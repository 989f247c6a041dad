"""From a language model's answer to candidate negatives, whatever shape the answer has.

The answer asked for is ``{"negatives": ["…"]}``. Models also fence it, introduce it, number lines, or stop half-way;
what can be told apart surely is taken, anything else is a named failure. Nothing here raises, and nothing here decides
that a candidate is good: that is :class:`~.checks.NegativeChecker`'s part.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any, NamedTuple

from ..language.text import clean
from .answers import is_refusal

_FENCE = re.compile(r"```(?:[a-zA-Z]*)\s*(.*?)(?:```|\Z)", re.DOTALL)
_LIST_ITEM = re.compile(r"^\s*(?:\(?\d{1,3}\s*[.):\]]|[-*•–])\s+(.+?)\s*$")
_QUOTED_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(:?)')
_QUOTES = "\"'“”‘’`"
MAX_ANSWER = 100_000  # characters; a longer one is a loop
_MAX_CANDIDATES = 100
_MAX_STARTS = 50  # brackets tried as the beginning of JSON


class ParsedAnswer(NamedTuple):
    """Candidates in the answer's order, cleaned; `failure` names why there are none, or which shape was met."""

    candidates: list[str]
    failure: str | None


def parse_negatives(answer: str | None) -> ParsedAnswer:
    """Read the candidates of one answer.

    Failures: "empty answer", "refusal", "answer too long", "no list in answer".
    """
    if not answer or not answer.strip():
        return ParsedAnswer([], "empty answer")
    if len(answer) > MAX_ANSWER:
        return ParsedAnswer([], "answer too long")
    fence = _FENCE.search(answer)
    for text in ([fence.group(1)] if fence else []) + [answer]:
        for read in (_whole_json, _broken_json, _lines):
            found = [c for c in map(_tidy, read(text)[:_MAX_CANDIDATES]) if c]
            if found:
                return ParsedAnswer(found, None)
    return ParsedAnswer([], "refusal" if is_refusal(answer) else "no list in answer")


def _whole_json(text: str) -> list[str]:
    """The strings of the first JSON object or array in `text` that holds a list of them."""
    decoder = json.JSONDecoder()
    for match in islice(re.finditer(r"[{\[]", text), _MAX_STARTS):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        found = _strings(value)
        if found:
            return found
    return []


def _strings(value: Any) -> list[str]:
    """The list in {"negatives": […]}, […], {"0": …, "1": …} or {"negatives": [{"text": …}]}."""
    if isinstance(value, dict):
        if isinstance(value.get("negatives"), (list, dict)):
            return _strings(value["negatives"])
        if value and all(isinstance(v, str) and str(k).isdigit() for k, v in value.items()):
            return list(value.values())
        lists = [v for v in value.values() if isinstance(v, list)]
        return _strings(lists[0]) if len(lists) == 1 else []
    if isinstance(value, list):
        texts = [v if isinstance(v, str) else _only_string(v) for v in value]
        return [t for t in texts if t is not None]
    return []


def _only_string(value: Any) -> str | None:
    """The text of {"text": "…"}."""
    if isinstance(value, dict):
        strings = [v for v in value.values() if isinstance(v, str)]
        return strings[0] if len(strings) == 1 else None
    return None


def _broken_json(text: str) -> list[str]:
    """The complete strings of a list that was cut off: ``{"negatives": ["a", "b", "c``."""
    start = text.find("[")
    if start < 0 or "]" in text[start:]:
        return []
    found = []
    for match in _QUOTED_ITEM.finditer(text, start):
        if not match.group(2):  # a key has a colon behind it
            try:
                found.append(json.loads(f'"{match.group(1)}"', strict=False))
            except ValueError:
                continue
    return found


def _lines(text: str) -> list[str]:
    """The items of a numbered or bulleted list; at least two, so that a sentence with a dash is none."""
    items = [match.group(1) for line in text.splitlines() if (match := _LIST_ITEM.match(line))]
    return items if len(items) > 1 else []


def _tidy(candidate: str) -> str:
    """Without quotes, a trailing comma of the list and what the paper removes."""
    text = candidate.strip().rstrip(",").strip()
    while len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text[1:-1].strip()
    text = "".join(c for c in text if c.isprintable() or c.isspace())
    return clean(text).rstrip(".").strip() if not text.endswith("...") else clean(text)
