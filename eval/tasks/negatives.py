"""FG-OVD's protocol on FineHARD-like records: every region against its own hard negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from eval.attributes import changed_attributes
from eval.images import ImageSource
from eval.results import Result
from eval.tasks.base import register
from eval.tasks.matching import MatchRow, add_breakdown, check_matches, embed_matches, score_matches
from eval.tasks.records import RecordTask

if TYPE_CHECKING:
    from eval.embed import Embedder


@register
@dataclass
class Negatives(RecordTask):
    """Top-1 of a region's short expression among itself and its hard negatives; regions without negatives are left out."""

    name: ClassVar[str] = "negatives"
    needs_regions: ClassVar[bool] = True

    def load(self) -> list[MatchRow]:
        rows = [
            MatchRow(
                record.image, np.array(region["bbox"], np.float32), None, [region["short_expr"], *region["negatives"]]
            )
            for record in self.read_records()
            for region in record.regions
            if region["negatives"]
        ]
        if not rows:
            raise ValueError(
                "task negatives: no region of the data has hard negatives (flag_short_neg, short_expr_negs)."
            )
        return rows

    def check(self, data: list[MatchRow]) -> None:
        check_matches(self, {"negatives": data})

    def images_of(self, data: list[MatchRow]) -> list[ImageSource]:
        return [row.image for row in data]

    def score(self, embedder: Embedder, data: list[MatchRow]) -> Result:
        matches = embed_matches(self, embedder, {"negatives": data})
        result = score_matches(self, embedder, matches, prefix=False)
        add_breakdown(result, matches, changed_attributes)
        return result
