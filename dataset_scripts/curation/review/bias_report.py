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


def read_rows(shards: list[Path], limit: int, seed: int = 0) -> tuple[list[Row], dict[str, list[Row]]]:
    """Up to `limit` positives with negatives, from whole shards in random order; and each with those of one source."""
    shards = list(shards)
    random.Random(seed).shuffle(shards)
    rows: list[Row] = []
    by_source: dict[str, list[Row]] = {}
    for path in shards:
        for record in pq.read_table(path, columns=["source_id", "regions"]).to_pylist():
            for region in record["regions"]:
                if not region["negatives"] or len(rows) >= limit:
                    continue
                rows.append(Row(region["short_expr"], region["negatives"], record["source_id"]))
                parts: dict[str, list[str]] = {}
                for negative, source in zip(region["negatives"], region.get("sources") or [], strict=False):
                    parts.setdefault(source, []).append(negative)
                for source, negatives in parts.items():
                    by_source.setdefault(source, []).append(Row(region["short_expr"], negatives, record["source_id"]))
        if len(rows) >= limit:
            break
    return rows, by_source


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


def text_bias_report(
    shards: list[Path], limit: int, vocabulary: str | None, model: str, seed: int = 0
) -> dict[str, Any]:
    """The scores of the negatives as made, of each source where there are several, and of uniformly drawn ones.

    Under "not measured" stands why there is none.
    """
    rows, by_source = read_rows(shards, limit, seed)
    wanted = {"as made": rows}
    if len(by_source) > 1:
        wanted |= {f"by {source}": part for source, part in sorted(by_source.items())}
    scores: dict[str, Any] = {}
    for name, part in wanted.items():
        scores |= _score(name, part, seed)
    if "as made" in scores:
        scores |= _score("uniform choice", uniform_rows(rows, vocabulary, model, seed), seed)
    return scores


def _score(name: str, rows: list[Row], seed: int) -> dict[str, Any]:
    try:
        return {name: measure(rows, FOLDS, seed).to_dict()}
    except (ImportError, ValueError) as error:
        return {f"{name}: not measured": str(error)}
