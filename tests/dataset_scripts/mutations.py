"""Damage as it comes: bytes flipped, cut, doubled or strange, and JSON whose values are of another kind."""

from __future__ import annotations

import copy
import random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1e300, -1e300, 10**400, 2**63, float("nan"), float("inf"), 1e-11, 0.5,
    "", " ", "nan", "None", "0", "1", "\u200b", "\ufeff", "\ufffd", "\ud800", "a\x00b", "a" * 5000, "../x", "/etc/passwd",
    "C:\\x", "hf://x", "[]", "{}", '["a", "b"]', "['a' 'b']", "=1+1", "\u202egnp", [], {}, [[]], [None], [1, 2, 3], [1, 2, 3, 4],
    [0, 0, 1, 1], ["a", 5], {"id": 1}, {"bbox": None}, [[[[[[]]]]]],
)  # fmt: skip
_BYTES = (
    b"\x00",
    b"\xff",
    b"\xfe\xff",
    b'"',
    b"\n",
    b"\r",
    b"\t",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\\",
    b"\xed\xa0\x80",
)
_PIECES = (
    b"NaN",
    b"Infinity",
    b"9" * 5000,
    b"1e999",
    b"null",
    b'"' * 7,
    b"[" * 3000,
    b"&a *a",
    b"!!python/object:os.system",
)


def mutated_bytes(data: bytes, dice: random.Random) -> bytes:
    """One to four places of damage."""
    for _ in range(dice.randint(1, 4)):
        at, end = sorted((dice.randrange(len(data) + 1), dice.randrange(len(data) + 1)))
        match dice.randrange(7):
            case 0 if data:  # one bit
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at]
            case 2:
                data = data[:at] + data[min(end, at + dice.randint(1, 40)) :]
            case 3:
                data = data[:at] + data[at : at + dice.randint(1, 200)] + data[at:]
            case 4:
                data = data[:at] + dice.choice(_PIECES) + data[at:]
            case 5:
                data = data[:at] + dice.choice(_BYTES) * dice.randint(1, 3) + data[at + dice.randint(0, 2) :]
            case _:
                data = data[:at] + dice.randbytes(dice.randint(1, 20)) + data[at:]
    return data


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def mutated_json(value: Any, dice: random.Random) -> Any:
    """The value with one to three parts of another kind, gone, doubled or under another name."""
    value = copy.deepcopy(value)
    for _ in range(dice.randint(1, 3)):
        places = _places(value)
        if not places:
            return dice.choice(ODD_VALUES)
        box, key = dice.choice(places)
        match dice.randrange(6):
            case 0 | 1 | 2:
                box[key] = copy.deepcopy(dice.choice(ODD_VALUES))
            case 3:
                del box[key]
            case 4 if isinstance(box, list):
                box.insert(key, copy.deepcopy(box[key]))
            case 4:
                box[f"{key}x"] = box.pop(key)
            case _:
                other, at = dice.choice(places)
                box[key] = (
                    copy.deepcopy(other[at])
                    if at in (other if isinstance(other, dict) else range(len(other)))
                    else None
                )
    return value
