"""How much captions alone tell positives from negatives: a text-only classifier, trained and tested on other images.

Hard negatives are there to make a model look. Where a classifier that never sees an image finds the positive, a model
can learn that instead, and an accuracy says less. Chance is 1 / (1 + negatives).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from modeling_fgclip.extras import missing_extra

from .agreement import Interval, wilson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

_WORD = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_WINDOW = 5  # words between the two of a pair


class Row(NamedTuple):
    """A positive with its negatives; rows of one group (image) are never on both sides of a split."""

    positive: str
    negatives: Sequence[str]
    group: str


@dataclass
class TextBias:
    """Result of :func:`measure`: top-1 among the positive and its negatives, by text alone."""

    top1: float
    top1_interval: Interval  # 95 %
    chance: float  # mean of 1 / (1 + negatives)
    auc: float  # of positives against negatives; chance 0.5
    rows: int
    folds: int

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def features(text: str) -> list[str]:
    """Words, neighbors, and ordered pairs within five words: enough for "red … dog" to be learnt."""
    words = ["^", *_WORD.findall(text.casefold()), "$"]
    singles = words[1:-1]
    neighbors = [f"{a} {b}" for a, b in pairwise(words)]
    pairs = [f"{a}…{b}" for i, a in enumerate(singles) for b in singles[i + 2 : i + 1 + _WINDOW]]
    return [*singles, *neighbors, *pairs]


def measure(rows: Iterable[Row], folds: int = 5, seed: int = 0) -> TextBias:
    """Cross-validated score of a logistic regression on :func:`features`, split by group.

    Args:
        rows: positives with negatives; rows without any are left out.
        folds: parts of the cross-validation.
        seed: of the solver.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: fewer groups than folds.
    """
    try:
        import numpy as np
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import GroupKFold
    except ImportError as error:
        raise ImportError(missing_extra("The text-only control needs scikit-learn", "curation")) from error
    kept = [row for row in rows if row.negatives]
    if len({row.group for row in kept}) < folds:
        raise ValueError(
            f"The text-only control got {len(kept)} rows of {len({row.group for row in kept})} images; "
            f"{folds}-fold cross-validation needs at least {folds} images with negatives."
        )
    texts = [text for row in kept for text in (row.positive, *row.negatives)]
    owner = np.array([i for i, row in enumerate(kept) for _ in range(1 + len(row.negatives))])
    is_positive = np.diff(owner, prepend=-1) > 0
    groups = np.array([row.group for row in kept])[owner]
    counts = CountVectorizer(analyzer=features, binary=True, min_df=2, dtype=np.float32)
    encoded = counts.fit_transform(texts)
    scores = np.zeros(len(texts))
    for train, test in GroupKFold(folds).split(encoded, is_positive, groups):
        model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=200, random_state=seed, solver="liblinear")
        scores[test] = model.fit(encoded[train], is_positive[train]).decision_function(encoded[test])
    correct = _top1(scores, owner, is_positive)
    return TextBias(
        top1=float(correct.mean()),
        top1_interval=wilson(float(correct.sum()), len(kept)),
        chance=float(np.mean([1 / (1 + len(row.negatives)) for row in kept])),
        auc=float(roc_auc_score(is_positive, scores)),
        rows=len(kept),
        folds=folds,
    )


def _top1(scores: np.ndarray, owner: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """Per row 1 where the positive scores highest; a tie among n counts 1/n."""
    import numpy as np

    correct = np.zeros(owner[-1] + 1)
    for row, (start, stop) in enumerate(_runs(owner)):
        best = scores[start:stop] == scores[start:stop].max()
        correct[row] = best[is_positive[start:stop]].sum() / best.sum()
    return correct


def _runs(owner: np.ndarray) -> Iterable[tuple[int, int]]:
    import numpy as np

    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    return zip(starts, [*starts[1:], len(owner)], strict=True)
