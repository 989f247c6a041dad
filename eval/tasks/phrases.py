"""Region phrases on FineHARD-like records: each region among all phrases, and among the phrases of its own image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from eval.box_sizes import add_size_breakdown, fractions_of_image
from eval.images import ImageSource
from eval.results import Result
from eval.scoring import add_class_scores, class_ranks
from eval.tasks.base import register, require_some
from eval.tasks.matching import MatchRow, embed_matches, score_matches
from eval.tasks.records import EvalRecord, RecordTask

if TYPE_CHECKING:
    from dataset_scripts.schema import Region
    from eval.embed import Embedder


@dataclass
class _PhraseTask(RecordTask):
    """Options both tasks share.

    Attributes:
        expression: which expression of a region is its phrase: short or long.
    """

    needs_regions: ClassVar[bool] = True

    expression: str = "short"

    def load(self) -> list[EvalRecord]:
        if self.expression not in ("short", "long"):
            raise ValueError(f"{self.name}.expression must be short or long; got {self.expression!r}.")
        return self.read_records()

    def images_of(self, data: list[EvalRecord]) -> list[ImageSource]:
        return [record.image for record in data]

    def phrase(self, region: Region) -> str | None:
        """In lower case: CLIP reads no capitals, so "A dog" and "a dog" are one phrase, not a tie."""
        text = region["short_expr" if self.expression == "short" else "long_expr"]
        return " ".join(text.lower().split()) or None if text else None


@register
@dataclass
class Phrases(_PhraseTask):
    """Box classification with phrases for classes: top-1 and top-5 of a region's phrase among all distinct phrases."""

    name: ClassVar[str] = "phrases"

    def score(self, embedder: Embedder, data: list[EvalRecord]) -> Result:
        described = [[i for i, region in enumerate(r.regions) if self.phrase(region)] for r in data]
        phrases = [self.phrase(r.regions[i]) for r, which in zip(data, described, strict=True) for i in which]
        if not phrases:
            raise ValueError(f"task phrases: no region of the data has a {self.expression} expression.")
        boxes = [record.boxes(which) for record, which in zip(data, described, strict=True)]
        features, valid, clipped = embedder.regions([r.image for r in data], boxes)
        require_some(self, valid)
        distinct = {phrase: i for i, phrase in enumerate(dict.fromkeys(phrases))}
        labels = np.array([distinct[phrase] for phrase in phrases])[valid]
        groups = np.repeat(np.arange(len(data)), [len(which) for which in described])[valid]
        better, tied = class_ranks(features[valid], embedder.texts(list(distinct), "region"), labels)
        result = Result(self.name, {}, settings=embedder.region_settings() | {"text": embedder.kind_of_text("region")})
        add_class_scores(result, better, tied, labels, len(distinct), groups, class_mean=False)
        areas = np.concatenate([fractions_of_image(b.normalized()) for b in boxes])[valid]
        add_size_breakdown(result, better, tied, areas, groups, len(distinct))
        result.data = {"images": len(data), "regions": len(labels), "phrases": len(distinct), "boxes_clipped": clipped}
        return result


@register
@dataclass
class PhraseInImage(_PhraseTask):
    """Top-1 of a region's phrase among the distinct phrases of the same image; images with one phrase are left out."""

    name: ClassVar[str] = "phrase_in_image"

    def score(self, embedder: Embedder, data: list[EvalRecord]) -> Result:
        rows = []
        for record in data:
            phrases = list(dict.fromkeys(p for p in map(self.phrase, record.regions) if p))
            if len(phrases) < 2:
                continue
            for region in record.regions:
                if own := self.phrase(region):
                    texts = [own, *(p for p in phrases if p != own)]
                    rows.append(MatchRow(record.image, np.array(region["bbox"], np.float32), None, texts))
        if not rows:
            raise ValueError("task phrase_in_image: no image of the data has two different phrases.")
        result = score_matches(self, embedder, embed_matches(self, embedder, {"regions": rows}), prefix=False)
        result.data = {name: value for name, value in result.data.items() if "other_than" not in name}
        return result
