"""Step 4 without a model: hard negatives by swapping attribute words of FG-OVD's vocabulary. The default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .attributes import compatible
from .text import clean, normalized

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from .attributes import Slot, Value, Vocabulary
    from .prior import AttributePrior

_VOWELS = "aeiou"


def replace(text: str, slot: Slot, value: Value) -> str:
    """`text` with `value` in place of the slot's: the article agrees, a capital letter stays.

    >>> "a red train" → "an orange train"
    """
    before, after = text[: slot.start], text[slot.end :]
    written = value.canonical if before.rstrip().casefold().endswith((" of", " in")) else value.text
    if text[slot.start].isupper():
        written = written[0].upper() + written[1:]
    return _agreeing(before, written) + written + after


def with_articles(text: str, vocabulary: Vocabulary) -> str:
    """`text` with "a" or "an" as every attribute word behind it wants: models write "a orange park"."""
    for start, *_ in reversed(vocabulary.find(text)):
        text = _agreeing(text[:start], text[start:]) + text[start:]
    return text


def _agreeing(before: str, word: str) -> str:
    """`before` with its last word, if it is "a" or "an", as `word` wants it."""
    words = before.split()
    if words and words[-1].casefold() in {"a", "an"} and before.endswith(" "):
        article = words[-1][0] + ("n" if word[0].casefold() in _VOWELS else "")
        before = before[: before.rfind(words[-1])] + article + " "
    return before


def candidates(
    text: str,
    slots: Sequence[Slot],
    also_said: Sequence[Slot],
    vocabulary: Vocabulary,
    prior: AttributePrior,
    rng: random.Random,
    matching: str = "frequency",
    count: int = 10,
    per_negative: int = 1,
) -> Iterator[str]:
    """Wrong versions of `text`, best first: values drawn without replacement, until none is left.

    Args:
        text: the positive.
        slots: its attributes (:meth:`Vocabulary.slots`).
        also_said: attributes said of the same object elsewhere; they are not wrong, so they are not drawn.
        matching: how values are weighted (:meth:`AttributePrior.weights`).
        count: how many negatives are wanted; with fewer values the fallback category is drawn from too.
        per_negative: how many attributes each changes (FG-OVD hard: 1, medium: 2, easy: 3), fewer where there are fewer.
    """
    orders = [_draw(slot, slots, also_said, vocabulary, prior, rng, matching, count) for slot in slots]
    seen = {normalized(text)}
    changes = min(per_negative, len(slots))
    while sum(1 for order in orders if order) >= max(changes, 1):
        # slots are changed in turn, at random; a long order (colors) is used more than a short one (transparency)
        available = [i for i, order in enumerate(orders) if order]
        chosen = rng.sample(available, changes)
        negative = text
        for i in sorted(chosen, key=lambda i: -slots[i].start):
            negative = replace(negative, slots[i], orders[i].pop(0))
        negative = clean(negative)
        if normalized(negative) not in seen:
            seen.add(normalized(negative))
            yield negative


def _draw(
    slot: Slot,
    slots: Sequence[Slot],
    also_said: Sequence[Slot],
    vocabulary: Vocabulary,
    prior: AttributePrior,
    rng: random.Random,
    matching: str,
    count: int,
) -> list[Value]:
    """Values to put in `slot`, drawn without replacement (exponential clocks)."""
    # the slot's own value, and what the object is called elsewhere; in "black and white" the other color too
    true = [slot.value, *(s.value for s in (*slots, *also_said) if s.noun == slot.noun)]
    order: list[Value] = []
    used: set[str] = set()
    for category in (slot.category, vocabulary.categories[slot.category].fallback.get(slot.value.text)):
        if category is None or len(order) >= count:
            continue
        weights = prior.weights(vocabulary, category, slot.noun, matching)
        values = vocabulary.categories[category].values
        clocks = {v: -math.log(1.0 - rng.random()) / max(w, 1e-12) for v, w in weights.items()}
        for text in sorted(clocks, key=lambda v: (clocks[v], v)):
            value = values[text]
            if value.canonical not in used and not any(compatible(value, t) for t in true):
                used.add(value.canonical)
                order.append(value)
    return order
