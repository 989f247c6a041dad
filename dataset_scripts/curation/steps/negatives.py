"""Step 4: hard negatives of each region's short expression, by rules (the default) or by a language model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..language.attributes import load_vocabulary
from ..language.checks import NegativeChecker
from ..language.pipeline import DEFAULT_MODEL, load_language
from ..language.prior import MATCHING, AttributePrior
from ..language.rules import candidates
from ..language.text import clean, normalized, seeded
from ..models.boxes import iou
from ..models.chat import Account, ChatSettings, Journal, Request, ask_all, make_backend
from ..models.parser import parse_negatives
from ..models.prompts import load_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spacy.tokens import Doc

    from ..language.attributes import Slot

METHODS = ("rules", "llm")
_SAME_OBJECT = 0.5  # IoU from which two boxes are taken for one object
_SPARE = 2  # candidates drawn beyond the number wanted, for those that the checks refuse


@dataclass
class NegativeSettings:
    """How many negatives, made how.

    A region gets `count` negatives or none (`minimum` lowers that). `per_negative` attributes change in each.
    `overwrite` replaces, or removes, negatives that a region already has.
    """

    method: str = "rules"
    count: int = 10
    minimum: int | None = None
    matching: str = "frequency"
    per_negative: int = 1
    overwrite: bool = True
    vocabulary: str | None = None
    model: str = DEFAULT_MODEL
    seed: int = 0
    # llm
    chat: ChatSettings | None = None
    prompt: str = "negatives_v1"
    rounds: int = 2  # how often missing ones are asked for

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"negatives.method is {self.method!r}; it must be one of {', '.join(METHODS)}.")
        if self.matching not in MATCHING:
            raise ValueError(f"negatives.matching is {self.matching!r}; it must be one of {', '.join(MATCHING)}.")
        if self.method == "llm" and self.chat is None:
            raise ValueError("negatives.method is llm; it needs a section negatives.chat with backend and model.")
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


class Negatives:
    """Fills `negatives` of the regions of a batch. `prior` holds the counts of the whole data set (rules only)."""

    name = "negatives"
    needs_images = False

    def __init__(self, settings: NegativeSettings, prior: AttributePrior | None = None) -> None:
        self.settings = settings
        self.nlp = load_language(settings.model)
        self.vocabulary = load_vocabulary(settings.vocabulary)
        self.checker = NegativeChecker(self.nlp, self.vocabulary)
        self.prior = prior or AttributePrior()
        self.backend = make_backend(settings.chat) if settings.method == "llm" else None
        self.prompt = load_prompt(settings.prompt)
        self.account = Account()
        self.journal = Journal()

    def open_journal(self, path: Path | None) -> Journal:
        """Keep answers in `path` until the journal is closed; the account starts at nothing."""
        self.journal, self.account = Journal(path if self.backend else None), Account()
        return self.journal

    def usage(self) -> dict[str, Any] | None:
        return self.account.to_dict(self.settings.chat) if self.settings.chat else None

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
        slots = [self.vocabulary.slots(doc) for doc in docs]
        # a model may change any attribute; without one there is nothing to change, and a request would be wasted
        described = self.backend is not None
        with_attribute = [
            i for i, doc in enumerate(docs) if slots[i] or (described and any(t.pos_ == "ADJ" for t in doc))
        ]
        make = self._by_rules if self.backend is None else self._by_model
        made, reasons = make([work[i] for i in with_attribute], [docs[i] for i in with_attribute])
        regions = [[dict(region) for region in row] for row in batch["regions"]]
        if self.settings.overwrite:
            regions = [[{**region, "negatives": []} for region in row] for row in regions]
        failures = [list(row) for row in batch["failures"]]
        least = self.settings.minimum or self.settings.count
        for i, negatives, reason in zip(with_attribute, made, reasons, strict=True):
            region = work[i]
            enough = len(negatives) >= least
            if enough:
                # the positive is cleaned as well: a comma that only positives have would give them away
                regions[region.row][region.index].update(short_expr=region.text, negatives=negatives)
            else:
                failures[region.row].append(f"negatives: {reason or 'too few good ones'}")
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

    def _by_rules(self, work: list[_Region], docs: list[Doc]) -> tuple[list[list[str]], list[str | None]]:
        also = iter(self.nlp.pipe((text for region in work for text in region.also), batch_size=256))
        drawn = []
        for region, doc in zip(work, docs, strict=True):
            said: list[Slot] = [slot for _ in region.also for slot in self.vocabulary.slots(next(also))]
            drawn.append(self._draw(region, doc, said))
        wanted = self.settings.count
        first = [list(islice(source, wanted + _SPARE)) for source in drawn]
        checked = self.checker.reasons_of_many([r.text for r in work], first, docs)
        made = []
        for region, doc, source, texts, reasons in zip(work, docs, drawn, first, checked, strict=True):
            good = [text for text, reason in zip(texts, reasons, strict=True) if reason is None]
            while len(good) < wanted and (more := list(islice(source, wanted))):
                reasons = self.checker.reasons(region.text, more, doc)
                good += [text for text, reason in zip(more, reasons, strict=True) if reason is None]
            made.append(good[:wanted])
        return made, [None] * len(work)

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

    def _by_model(self, work: list[_Region], docs: list[Doc]) -> tuple[list[list[str]], list[str | None]]:
        made: list[list[str]] = [[] for _ in work]
        reasons: list[str | None] = [None] * len(work)
        for attempt in range(self.settings.rounds):
            short = [i for i, good in enumerate(made) if len(good) < self.settings.count]
            if not short:
                break
            requests = [self._request(work[i], attempt) for i in short]
            answers = ask_all(self.backend, self.settings.chat, requests, self.journal, self.account)
            parsed = [parse_negatives(answer.text) for answer in answers]
            # candidates join those of earlier rounds, so that duplicates across rounds are seen
            groups = [made[i] + p.candidates for i, p in zip(short, parsed, strict=True)]
            checked = self.checker.reasons_of_many([work[i].text for i in short], groups, [docs[i] for i in short])
            for i, answer, p, group, verdicts in zip(short, answers, parsed, groups, checked, strict=True):
                said = {normalized(text) for text in work[i].also}
                good = [t for t, reason in zip(group, verdicts, strict=True) if reason is None]
                made[i] = [t for t in good if normalized(t) not in said][: self.settings.count]
                reasons[i] = answer.failure or p.failure
        return made, reasons

    def _request(self, region: _Region, attempt: int) -> Request:
        # a higher seed in each round, or a server at temperature 0 would repeat itself; then the wording differs too
        count = self.settings.count + attempt * _SPARE
        user = self.prompt.fill(expression=region.text, count=count)
        return Request(self.prompt.system, user, schema=self.prompt.schema, seed=self.settings.seed + attempt)
