"""How often each attribute is said of each noun: what the drawn negatives are matched to."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .attributes import Slot, Vocabulary

MATCHING = ("uniform", "frequency")
_BACKOFF = 4.0  # pseudo-counts of the category's distribution in a noun's own (Dirichlet smoothing)
_EPSILON = 0.05  # pseudo-count of a value that was never seen


class AttributePrior:
    """Counts of value by category and noun, over the positives of a whole data set.

    Merging is adding, so shards count on their own (see :meth:`merge`).
    """

    def __init__(self, counts: Mapping[str, Mapping[str, Mapping[str, int]]] | None = None) -> None:
        self.counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for category, nouns in (counts or {}).items():
            for noun, values in nouns.items():
                self.counts[category][noun].update(values)
        self._totals: dict[str, Counter[str]] = {}
        self._weights: dict[tuple[str, str, str], dict[str, float]] = {}

    def add(self, slots: Iterable[Slot]) -> None:
        """Count the attributes of one positive."""
        for slot in slots:
            self.counts[slot.category][slot.noun][slot.value.text] += 1
        self._totals.clear()
        self._weights.clear()

    def merge(self, other: AttributePrior) -> None:
        """Add another's counts to these."""
        for category, nouns in other.counts.items():
            for noun, values in nouns.items():
                self.counts[category][noun].update(values)
        self._totals.clear()
        self._weights.clear()

    def to_dict(self) -> dict[str, Any]:
        """Plain and sorted, so that equal counts are equal files."""
        return {
            category: {noun: dict(sorted(values.items())) for noun, values in sorted(nouns.items())}
            for category, nouns in sorted(self.counts.items())
        }

    def dumps(self) -> str:
        return json.dumps(self.to_dict())

    def probability(self, vocabulary: Vocabulary, category: str, noun: str) -> dict[str, float]:
        """P(value | noun) within `category`, backed off to P(value) where the noun was seldom seen."""
        if category not in self._totals:
            self._totals[category] = Counter()
            for values in self.counts[category].values():
                self._totals[category].update(values)
        total = self._totals[category]
        known = vocabulary.categories[category]
        values = [v for v in known.values if noun in known.only_for.get(v, (noun,))]
        own = self.counts[category].get(noun, Counter())
        smoothed = {v: total[v] + _EPSILON for v in values}
        scale = _BACKOFF / sum(smoothed.values())
        raw = {v: own[v] + scale * smoothed[v] for v in values}
        norm = sum(raw.values())
        return {v: p / norm for v, p in raw.items()}

    def weights(self, vocabulary: Vocabulary, category: str, noun: str, matching: str) -> dict[str, float]:
        """The weight of each value in the draw of negatives without replacement.

        frequency: P(value | noun), so that captions alone tell as little as possible; what is never said of any noun is
                   drawn last.
        uniform:   every value alike, as the paper's language model was asked for.
        """
        key = (category, noun, matching)
        if key not in self._weights:
            p = self.probability(vocabulary, category, noun)
            if matching not in MATCHING:
                raise ValueError(f"negatives.matching is {matching!r}; it must be one of {', '.join(MATCHING)}.")
            self._weights[key] = p if matching == "frequency" else dict.fromkeys(p, 1.0)
        return self._weights[key]
