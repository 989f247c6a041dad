"""Hard negatives from a language model: asked for, read, checked, and asked for again with what was wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..language.checks import REASONS
from ..language.rules import with_articles
from ..language.text import normalized
from .chat import Verdict
from .messages import Request
from .parser import parse_negatives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spacy.tokens import Doc

    from ..language.checks import NegativeChecker
    from .chat import Chat
    from .messages import Answer
    from .prompts import Prompt

_SPARE = 2  # asked for beyond what is missing, from the second round on
_GROWTH = 60  # characters that a negative may have more than its positive; the checks allow eight words
_FAULTS = 12  # of the latest, named in the next round
_ALSO_TRUE = "also said of the object"
_EXPLAINED = {
    **REASONS,
    _ALSO_TRUE: "it is true of the object as well",
    "objects in place of texts": "each version must be one text, not an object",
}


@dataclass
class Asked:
    """A positive at work: `also` are other texts that are true of the object."""

    text: str
    doc: Doc
    also: Sequence[str] = ()
    good: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)  # text → reason
    reason: str | None = None  # why the last answer brought nothing


class NegativeAsker:
    """Asks up to `rounds` times for `count` negatives each. `counts` has the candidates checked and passed.

    With `explain`, a later round names what was wrong with the earlier candidates.
    """

    def __init__(
        self, chat: Chat, prompt: Prompt, checker: NegativeChecker, count: int, rounds: int, explain: bool, seed: int
    ) -> None:
        self.chat, self.prompt, self.checker = chat, prompt, checker
        self.count, self.rounds, self.explain, self.seed = count, rounds, explain, seed

    def fill(self, asked: list[Asked], counts: Counter[str]) -> None:
        """Fills `good` of each, with up to `count`."""
        for round in range(1, self.rounds + 1):
            short = [one for one in asked if len(one.good) < self.count]
            requests = [self._request(one, round) for one in short]

            def judge(
                positions: Sequence[int], answers: Sequence[Answer], short: list[Asked] = short
            ) -> list[Verdict]:
                return self._judge([short[i] for i in positions], answers, counts)

            self.chat.ask(requests, judge, round)

    def _judge(self, asked: list[Asked], answers: Sequence[Answer], counts: Counter[str]) -> list[Verdict]:
        parsed = [parse_negatives(answer.text) for answer in answers]
        candidates = [[with_articles(text, self.checker.vocabulary) for text in p.candidates] for p in parsed]
        # after those of earlier rounds, so that duplicates across rounds are seen
        groups = [[*one.good, *new] for one, new in zip(asked, candidates, strict=True)]
        checked = self.checker.reasons_of_many([one.text for one in asked], groups, [one.doc for one in asked])
        return [
            self._take(one, answer, p.failure, new, reasons[len(one.good) :], counts)
            for one, answer, p, new, reasons in zip(asked, answers, parsed, candidates, checked, strict=True)
        ]

    def _take(
        self,
        one: Asked,
        answer: Answer,
        failure: str | None,
        candidates: list[str],
        reasons: list[str | None],
        counts: Counter[str],
    ) -> Verdict:
        missing = self.count - len(one.good)
        one.reason = answer.failure or failure
        said = {normalized(text) for text in one.also}
        judged = [
            (text, _ALSO_TRUE if reason is None and normalized(text) in said else reason)
            for text, reason in zip(candidates, reasons, strict=True)
        ]
        good = [text for text, reason in judged if reason is None]
        counts.update({"checked by llm": len(judged), "passed by llm": len(good)})
        one.good += good[:missing]
        bad = Counter(reason for _, reason in judged if reason is not None)
        one.faults.update({text: reason for text, reason in judged if reason is not None})
        if one.reason is None and not good:
            one.reason = bad.most_common(1)[0][0]
        elif one.reason is not None and answer.failure is None:
            one.faults["the answer"] = one.reason
            one.reason += " (cut off)" if answer.cut else ""
        return Verdict(None, min(len(good), missing), missing, one.reason)

    def _request(self, one: Asked, round: int) -> Request:
        count = self.count - len(one.good) + (_SPARE if round > 1 else 0)
        user = self.prompt.fill(expression=one.text, count=count)
        if round > 1 and self.explain and self.prompt.again and (one.faults or one.good):
            user += self.prompt.fill_again(faults="\n".join(self._faults(one)))
        # another seed in each round, or a server would repeat itself where nothing else differs
        schema = self.prompt.fill_schema(count=count, length=len(one.text) + _GROWTH)
        return Request(self.prompt.system, user, schema=schema, seed=self.seed + round - 1)

    def _faults(self, one: Asked) -> list[str]:
        faults = [(text, _EXPLAINED.get(reason, reason)) for text, reason in one.faults.items()]
        return [f'- "{text}": {why}' for text, why in faults[-_FAULTS:]] + [
            f'- "{text}": already given' for text in one.good
        ]
