"""What asking has cost and brought so far, and the warning when it brings almost nothing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from dataset_scripts.atomic import write_json

from .structured import schema_fault

if TYPE_CHECKING:
    from pathlib import Path

    from .chat import Verdict
    from .messages import Answer, ChatSettings, Request

logger = logging.getLogger(__name__)
FIRST = 20  # answers after which a run is judged
ALMOST_NOTHING = 0.1  # share of what was asked for
_EXAMPLE = 200  # characters of an answer in a warning
_SHOWN_EVERY = 0.5  # seconds


class StoppedEarly(ValueError):
    """Less of the answers can be used than `stop_below` demands. What was answered is kept."""


class Account:
    """Requests, tokens and survivors of one shard. `path` shows them while it is being worked on.

    Counts are numbers by name, so that accounts add up; those of a round carry its number. `reused` answers came from a
    journal or from an equal request: they cost nothing now.
    """

    def __init__(self, path: Path | None = None, settings: ChatSettings | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()  # requests without an answer, and answers of no use, by reason
        self.notes: dict[str, str] = {}
        self._path, self._settings, self._shown = path, settings, 0.0

    def plan(self, requests: int) -> None:
        self.counts["planned"] += requests

    def add(self, answer: Answer, verdict: Verdict, round: int, reused: bool, shared: bool) -> None:
        """Count one request; `shared` ones got the answer of an equal one beside them, which carries the tokens."""
        self.counts.update({"requests": 1, "reused": int(reused or shared), f"round {round}: requests": 1})
        self.counts.update({"kept": verdict.kept, "wanted": verdict.wanted, f"round {round}: kept": verdict.kept})
        if not shared:
            self.counts.update(prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens)
            self.counts["retries"] += 0 if reused else answer.retries
        if verdict.reason and not verdict.kept:
            self.failures[verdict.reason] += 1

    def to_dict(self) -> dict[str, Any]:
        """Numbers by name; `cost` in the currency of the prices, with the answers that an earlier run paid for."""
        settings = self._settings
        cost = 0.0
        if settings is not None:
            cost = self.counts["prompt_tokens"] * settings.prompt_price
            cost += self.counts["completion_tokens"] * settings.completion_price
        return {**self.counts, "cost": cost / 1e6}

    def show(self, at_once: bool = False) -> None:
        """Write the account to its file, not too often."""
        if self._path is None:
            for text in self.notes.values():
                logger.warning(text)
            self.notes = {}
        elif at_once or time.monotonic() - self._shown > _SHOWN_EVERY:
            self._shown = time.monotonic()
            write_json(self._path, {"usage": self.to_dict(), "failures": dict(self.failures), "notes": self.notes})

    def close(self) -> None:
        self.show(at_once=True)


class Watch:
    """Looks at the first answers of a process: do they follow the schema, can anything of them be used?"""

    def __init__(self, settings: ChatSettings) -> None:
        self.settings = settings
        self.seen = self.with_schema = 0
        self.shares = 0.0
        self.reasons: Counter[str] = Counter()
        self.examples: list[str] = []
        self.faults: list[str] = []
        self._refused = False

    @property
    def share(self) -> float:
        """Mean share of what was asked for that could be used."""
        return self.shares / self.seen if self.seen else 1.0

    def see(self, request: Request, answer: Answer, verdict: Verdict, refusal: str | None) -> dict[str, str]:
        """Count one answer. Returns what is to be said now, by subject; each subject comes up once."""
        said: dict[str, str] = {}
        if refusal and not self._refused:
            self._refused = True
            said["schema refused"] = (
                f"{self.settings.base_url} refuses the JSON schema ({refusal}); it is asked without from here on. "
                f"Set chat.structured_output to {self._other()}."
            )
        self.seen += 1
        self.shares += min(1.0, verdict.kept / verdict.wanted) if verdict.wanted else 1.0
        if verdict.reason:
            self.reasons[verdict.reason] += 1
        if not verdict.kept and len(self.examples) < 2:
            self.examples.append(f"{verdict.reason}: {answer.text[:_EXAMPLE]!r}")
        if self.seen <= FIRST:
            self._compare(request, answer, refusal)
        if self.seen == FIRST:
            said |= self._first()
        return said

    def _compare(self, request: Request, answer: Answer, refusal: str | None) -> None:
        sent = self.settings.backend == "endpoint" and self.settings.structured_output != "none" and not refusal
        if request.schema is None or answer.failure or not sent:
            return
        self.with_schema += 1
        fault = schema_fault(answer.text, request.schema, answer.cut)
        if fault:
            self.faults.append(f"{fault}: {answer.text[:_EXAMPLE]!r}")

    def _first(self) -> dict[str, str]:
        said = {}
        if 2 * len(self.faults) > self.with_schema:
            said["schema ignored"] = (
                f"{len(self.faults)} of the first {self.with_schema} answers do not follow the JSON schema, so the "
                f"server seems to ignore it ({self.faults[0]}). Set chat.structured_output to {self._other()}."
            )
        if self.share < ALMOST_NOTHING:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in self.reasons.most_common(3))
            said["almost nothing"] = (
                f"After {FIRST} requests {self.share:.0%} of what was asked for can be used. Reasons: {reasons}. "
                f"Examples: {'; '.join(self.examples)}. chat.stop_below ends such a run by itself."
            )
        return said

    def _other(self) -> str:
        return "tgi for an older TGI, or none" if self.settings.structured_output == "json_schema" else "json_schema"

    def stop(self) -> None:
        """Raises:
        StoppedEarly: there are enough answers to tell, and the share is too small.
        """
        least = self.settings.stop_below
        if least is not None and self.seen >= FIRST and self.share < least:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in self.reasons.most_common(3))
            raise StoppedEarly(
                f"After {self.seen} requests {self.share:.1%} of what was asked for can be used, and chat.stop_below is "
                f"{least:.1%}. Reasons: {reasons}. What was answered is kept; change the model or the prompt, or lower it."
            )
