"""Step 4: hard negatives of each region's short expression, by rules (the default), a language model, or both."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..language.attributes import load_vocabulary, vocabulary_digest
from ..language.checks import NegativeChecker
from ..language.pipeline import DEFAULT_MODEL, load_language
from ..language.prior import MATCHING, AttributePrior
from ..language.rules import candidates
from ..language.text import clean, seeded
from ..models.ask_negatives import Asked, NegativeAsker
from ..models.boxes import iou
from ..models.chat import Chat
from ..models.messages import ChatSettings
from ..models.prompts import load_prompt, prompt_digest
from ..settings import names_file
from .step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spacy.tokens import Doc

    from ..language.attributes import Slot

METHODS = ("rules", "llm", "mixed")
_SAME_OBJECT = 0.5  # IoU from which two boxes are taken for one object
_SPARE = 2  # candidates drawn beyond the number wanted, for those that the checks refuse


@dataclass
class NegativeSettings:
    """How many negatives, made how.

    A region gets `count` negatives or none (`minimum` lowers that). `per_negative` attributes change in each.
    `overwrite` replaces, or removes, negatives that a region already has. `mixed` asks a model and lets the rules fill
    up. A model is asked up to `rounds` times for what is missing; with `explain` it is told what was wrong.
    """

    method: str = "rules"
    count: int = 10
    minimum: int | None = None
    matching: str = "frequency"
    per_negative: int = 1
    overwrite: bool = True
    vocabulary: str | None = names_file(None, vocabulary_digest)
    model: str = DEFAULT_MODEL
    seed: int = 0
    # llm and mixed
    chat: ChatSettings | None = None
    prompt: str = names_file("negatives_v2", prompt_digest)
    rounds: int = 2
    explain: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"negatives.method is {self.method!r}; it must be one of {', '.join(METHODS)}.")
        if self.matching not in MATCHING:
            raise ValueError(f"negatives.matching is {self.matching!r}; it must be one of {', '.join(MATCHING)}.")
        if self.method != "rules" and self.chat is None:
            raise ValueError(
                f"negatives.method is {self.method}; it needs a section negatives.chat with backend and model."
            )
        for name in ("count", "per_negative", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"negatives.{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.minimum is not None and not 1 <= self.minimum <= self.count:
            raise ValueError(f"negatives.minimum is {self.minimum}; it must lie between 1 and count ({self.count}).")


@dataclass
class _Region:
    """A region at work: `also` are the other expressions of the same object."""

    row: int
    index: int
    text: str
    also: list[str]
    source_id: str


class Negatives(Step):
    """Fills `negatives` of the regions of a batch, and `sources` with who made each: "llm" or "rules".

    `surveyed` holds the counts of attributes in the whole data set, which the rules draw by.
    """

    Settings = NegativeSettings
    reads = ("regions.short_expr",)
    writes = ("regions.negatives",)
    asks = "region"

    def __init__(self, settings: NegativeSettings, surveyed: AttributePrior | None = None) -> None:
        super().__init__(settings)
        self.nlp = load_language(settings.model)
        self.vocabulary = load_vocabulary(settings.vocabulary)
        self.checker = NegativeChecker(self.nlp, self.vocabulary)
        self.prior = surveyed or AttributePrior()
        self.asker = None
        if settings.method != "rules":
            self.chat = Chat(settings.chat)
            self.asker = NegativeAsker(
                self.chat, load_prompt(settings.prompt), self.checker, settings.count, settings.rounds,
                settings.explain, settings.seed,
            )  # fmt: skip

    @classmethod
    def chat_settings(cls, settings: NegativeSettings) -> ChatSettings | None:
        return settings.chat if settings.method != "rules" else None

    @classmethod
    def survey(cls, settings: NegativeSettings) -> tuple[str, type[AttributePrior]] | None:
        return ("prior", AttributePrior) if settings.method != "llm" and settings.matching != "uniform" else None

    def count(self, batch: dict[str, list[Any]]) -> AttributePrior:
        """The attributes of the batch's positives: the part of the prior that these records add."""
        prior = AttributePrior()
        texts = [clean(r["short_expr"]) for regions in batch["regions"] for r in regions if r["short_expr"]]
        for doc in self.nlp.pipe(texts, batch_size=256):
            prior.add(self.vocabulary.slots(doc))
        return prior

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        work = list(self._work(batch))
        docs = list(self.nlp.pipe([region.text for region in work], batch_size=256))
        slots = [bool(self.vocabulary.slots(doc)) for doc in docs]
        made: list[list[str]] = [[] for _ in work]
        reasons: list[str | None] = [None] * len(work)
        by_model = [0] * len(work)
        # a model may change any attribute; without one there is nothing to change, and a request would be wasted
        described = [
            has or (self.asker and any(t.pos_ == "ADJ" for t in doc)) for has, doc in zip(slots, docs, strict=True)
        ]
        if self.asker is not None:
            chosen = [i for i, yes in enumerate(described) if yes]
            asked = [Asked(work[i].text, docs[i], work[i].also) for i in chosen]
            self.asker.fill(asked, self.counts)
            for i, one in zip(chosen, asked, strict=True):
                made[i], reasons[i], by_model[i] = one.good, one.reason, len(one.good)
        if self.settings.method != "llm":
            chosen = [i for i, has in enumerate(slots) if has and len(made[i]) < self.settings.count]
            filled = self._by_rules([work[i] for i in chosen], [docs[i] for i in chosen], [made[i] for i in chosen])
            for i, negatives in zip(chosen, filled, strict=True):
                made[i] = negatives
        regions = [[dict(region) for region in row] for row in batch["regions"]]
        if self.settings.overwrite:
            regions = [[{**region, "negatives": [], "sources": []} for region in row] for row in regions]
        failures = [list(row) for row in batch["failures"]]
        least = self.settings.minimum or self.settings.count
        for i, region in enumerate(work):
            if not described[i]:
                continue
            if len(made[i]) >= least:
                # the positive is cleaned as well: a comma that only positives have would give them away
                sources = ["llm"] * by_model[i] + ["rules"] * (len(made[i]) - by_model[i])
                regions[region.row][region.index].update(short_expr=region.text, negatives=made[i], sources=sources)
                self.counts.update(f"negatives by {source}" for source in sources)
            else:
                failures[region.row].append(f"negatives: {reasons[i] or 'too few good ones'}")
        return {**batch, "regions": regions, "failures": failures}

    def _work(self, batch: dict[str, list[Any]]) -> Iterator[_Region]:
        for row, regions in enumerate(batch["regions"]):
            for index, region in enumerate(regions):
                if not region["short_expr"] or (region["negatives"] and not self.settings.overwrite):
                    continue
                same = [r for r in regions if r is region or iou(r["bbox"], region["bbox"]) > _SAME_OBJECT]
                also = [r[key] for r in same for key in ("short_expr", "long_expr") if r[key]]
                text = clean(region["short_expr"])
                also = [a for a in dict.fromkeys(map(clean, also)) if a != text]
                yield _Region(row, index, text, also, batch["source_id"][row])

    def _by_rules(self, work: list[_Region], docs: list[Doc], given: list[list[str]]) -> list[list[str]]:
        """The lists `given`, filled up to `count` by rules where there are values enough."""
        also = iter(self.nlp.pipe((text for region in work for text in region.also), batch_size=256))
        drawn = []
        for region, doc in zip(work, docs, strict=True):
            said: list[Slot] = [slot for _ in region.also for slot in self.vocabulary.slots(next(also))]
            drawn.append(self._draw(region, doc, said))
        wanted = self.settings.count
        # behind those given, so that duplicates of them are seen
        first = [[*own, *islice(source, wanted - len(own) + _SPARE)] for own, source in zip(given, drawn, strict=True)]
        checked = self.checker.reasons_of_many([r.text for r in work], first, docs)
        made = []
        for region, doc, source, own, texts, reasons in zip(work, docs, drawn, given, first, checked, strict=True):
            good = [*own]
            while len(texts) > len(good):
                new = [text for text, reason in zip(texts, reasons, strict=True) if reason is None][len(good) :]
                self.counts.update({"checked by rules": len(texts) - len(good), "passed by rules": len(new)})
                good += new
                texts = [*good, *islice(source, wanted)] if len(good) < wanted else good
                reasons = self.checker.reasons(region.text, texts, doc) if texts is not good else []
            made.append(good[:wanted])
        return made

    def _draw(self, region: _Region, doc: Doc, said: list[Slot]) -> Iterator[str]:
        rng = seeded(self.settings.seed, region.source_id, region.index, region.text)
        return candidates(
            region.text,
            self.vocabulary.slots(doc),
            said,
            self.vocabulary,
            self.prior,
            rng,
            matching=self.settings.matching,
            count=self.settings.count,
            per_negative=self.settings.per_negative,
        )
