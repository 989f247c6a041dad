"""Step 5: automatic checks on every record; what fails is taken out and counted by reason."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..language.attributes import load_vocabulary, vocabulary_digest
from ..language.checks import NegativeChecker
from ..language.pipeline import DEFAULT_MODEL, load_language
from ..language.text import clean
from ..settings import names_file, operational
from .step import Step

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class QualitySettings:
    """`max_expression` is in characters; a longer one is a parser's mistake or a loop of the captioner.

    `text_bias` measures on up to `text_bias_rows` regions how much text alone tells (:mod:`.text_bias`).
    """

    model: str = DEFAULT_MODEL
    vocabulary: str | None = names_file(None, vocabulary_digest)
    max_expression: int = 400
    text_bias: bool = operational(True)
    text_bias_rows: int = operational(20_000)

    def __post_init__(self) -> None:
        if self.max_expression < 1:
            raise ValueError(f"quality.max_expression is {self.max_expression}; it must be 1 or more.")


class Quality(Step):
    """Keeps regions with a sound box and expression, and negatives that pass every check of :mod:`.checks`."""

    Settings = QualitySettings
    writes = ("regions.negatives",)

    def __init__(self, settings: QualitySettings) -> None:
        super().__init__(settings)
        self.checker = NegativeChecker(load_language(settings.model), load_vocabulary(settings.vocabulary))

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        regions: list[list[dict[str, Any]]] = [[] for _ in batch["source_id"]]
        failures = [list(row) for row in batch["failures"]]
        checked: list[tuple[int, dict[str, Any]]] = []
        for row, old in enumerate(batch["regions"]):
            for region in old:
                reason = region_fault(region, self.settings.max_expression)
                if reason is not None:
                    failures[row].append(f"quality: {reason}")
                    continue
                region = dict(region)
                regions[row].append(region)
                if region["negatives"]:
                    checked.append((row, region))
        verdicts = self.checker.reasons_of_many(
            [clean(region["short_expr"]) for _, region in checked], [region["negatives"] for _, region in checked]
        )
        for (row, region), reasons in zip(checked, verdicts, strict=True):
            good = [i for i, reason in enumerate(reasons) if reason is None]
            region["sources"] = [source for i in good for source in (region.get("sources") or [])[i : i + 1]]
            region["negatives"] = [region["negatives"][i] for i in good]
            for reason, number in Counter(r for r in reasons if r is not None).items():
                failures[row] += [f"quality: negative: {reason}"] * number
        return {**batch, "regions": regions, "failures": failures}

    @classmethod
    def report(cls, settings: QualitySettings, annotations: list[Path], seed: int) -> dict[str, Any]:
        """`text_bias`: how much the captions alone tell."""
        if not settings.text_bias:
            return {}
        from ..review.bias_report import text_bias_report

        rows = settings.text_bias_rows
        return {"text_bias": text_bias_report(annotations, rows, settings.vocabulary, settings.model, seed)}


def region_fault(region: dict[str, Any], max_expression: int) -> str | None:
    """What is wrong with a region's box or expressions, or None."""
    box = region["bbox"]
    if len(box) != 4 or not all(math.isfinite(v) for v in box):
        return "box not finite"
    if not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        return "box empty or outside the image"
    texts = [t for t in (region["short_expr"], region["long_expr"]) if t]
    if not texts:
        return "no expression"
    if any(len(t) > max_expression for t in texts):
        return "expression too long"
    if any("\n" in t or "\r" in t for t in texts):
        return "line break in expression"
    if region["negatives"] and not region["short_expr"]:
        return "negatives without a short expression"
    return None
