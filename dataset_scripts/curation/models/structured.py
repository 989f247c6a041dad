"""JSON as models write it: introduced, fenced, or cut off at the token limit; and whether it follows a schema."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from modeling_fgclip.extras import missing_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_STARTS = 50  # brackets tried as the beginning of JSON
_CLOSING = {"{": "}", "[": "]"}
# A string without an end reaches to the end of the text; looking for its end from each quote would take quadratic time.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?P<end>"|\\?\Z)|[{}\[\]:,]|[^\s"{}\[\]:,]+', re.DOTALL)
_SHORT_OF = {"minItems", "required", "minProperties"}  # what a cut answer may lack


def json_values(text: str) -> Iterator[Any]:
    """The JSON objects and arrays in `text`, outermost first; the last may be cut off (:func:`closed`)."""
    decoder = json.JSONDecoder()
    for match in islice(re.finditer(r"[{\[]", text), _MAX_STARTS):
        try:
            yield decoder.raw_decode(text, match.start())[0]
        except (ValueError, RecursionError):
            value = closed(text[match.start() :])
            if value is not None:
                yield value
                return  # all that follows is inside it


def closed(text: str) -> Any:
    """The value of JSON that was cut off: its complete parts, ``{"a": ["b", "c`` → {"a": ["b"]}.

    None where `text` is not the beginning of JSON, or holds nothing complete.
    """
    stack: list[str] = []
    end, brackets = 0, ""  # up to where the elements are whole, and what closes them there
    for match in _TOKEN.finditer(text):
        token = match.group()
        if match["end"] not in (None, '"'):
            break
        stop = match.end()
        if token in _CLOSING:
            stack.append(_CLOSING[token])
        elif token in ("}", "]"):
            if not stack or stack.pop() != token:
                return None
        elif token == ",":
            stop = match.start()
        elif not (len(token) > 1 and token[0] == '"' and stack and stack[-1] == "]"):
            continue
        # an object of a list is whole only with its last key
        if "}" not in stack[stack.index("]") :] if "]" in stack else True:
            end, brackets = stop, "".join(reversed(stack))
        if not stack:
            break
    try:
        return json.loads(text[:end] + brackets, strict=False) if end else None
    except (ValueError, RecursionError):
        return None


def schema_fault(text: str, schema: dict[str, Any], cut: bool) -> str | None:
    """Where an answer leaves its schema, in one line, or None. What a `cut` answer lacks at its end is no fault.

    Raises:
        ImportError: jsonschema is not installed.
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise ImportError(missing_extra("Answers are compared with their schema by jsonschema", "curation")) from error
    try:
        value, rest = json.JSONDecoder().raw_decode(text.strip())
        if text.strip()[rest:]:
            return "text behind the JSON"
    except (ValueError, RecursionError):
        value = closed(text.strip()) if cut else None
        if value is None:
            return None if cut and text.strip()[:1] in ("", "{") else "no JSON"
    for fault in Draft202012Validator(schema).iter_errors(value):
        if not (cut and fault.validator in _SHORT_OF):
            place = "".join(f"[{part!r}]" for part in fault.absolute_path)
            return f"{place or 'the answer'} breaks {fault.validator!r}"
    return None
