"""The text-only control of a finished data set: its own negatives, and uniformly drawn ones for the same positives."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..language.attributes import load_vocabulary
from ..language.pipeline import load_language
from ..language.prior import AttributePrior
from ..language.rules import candidates
from ..language.text import seeded
from .text_bias import Row, measure

FOLDS = 5


def read_rows(records: Path, limit: int, seed: int = 0) -> list[Row]:
    """Up to `limit` positives with negatives, from whole shards in random order."""
    files = sorted(records.glob("*.parquet"))
    random.Random(seed).shuffle(files)
    rows: list[Row] = []
    for path in files:
        for record in pq.read_table(path, columns=["source_id", "regions"]).to_pylist():
            for region in record["regions"]:
                if region["negatives"]:
                    rows.append(Row(region["short_expr"], region["negatives"], record["source_id"]))
        if len(rows) >= limit:
            break
    return rows[:limit]


def uniform_rows(rows: list[Row], vocabulary: str | None = None, model: str | None = None, seed: int = 0) -> list[Row]:
    """The same positives with as many negatives each, every attribute value drawn alike (the paper's choice).

    Positives without a word of the vocabulary are left out.
    """
    words, prior = load_vocabulary(vocabulary), AttributePrior()
    nlp = load_language(model) if model else load_language()
    drawn = []
    for row, doc in zip(rows, nlp.pipe([row.positive for row in rows], batch_size=256), strict=True):
        slots = words.slots(doc)
        rng = seeded(seed, row.group, row.positive)
        source = candidates(row.positive, slots, [], words, prior, rng, "uniform", len(row.negatives)) if slots else ()
        negatives = list(islice(source, len(row.negatives)))
        if negatives:
            drawn.append(Row(row.positive, negatives, row.group))
    return drawn


def text_bias_report(records: Path, limit: int, vocabulary: str | None, model: str, seed: int = 0) -> dict[str, Any]:
    """Both scores, or under "not measured" why there are none."""
    rows = read_rows(records, limit, seed)
    try:
        own = measure(rows, FOLDS, seed)
        uniform = measure(uniform_rows(rows, vocabulary, model, seed), FOLDS, seed)
    except (ImportError, ValueError) as error:
        return {"not measured": str(error)}
    return {"as made": own.to_dict(), "uniform choice": uniform.to_dict()}
