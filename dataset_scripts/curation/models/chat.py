"""A model that is asked: journal, account and watch around a backend, so that no step has its own.

Two backends answer the same requests: an OpenAI-compatible endpoint (:mod:`.endpoint`) and a transformers model in this
process (:mod:`.local_model`).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .account import Account, Watch
from .journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from .messages import Answer, Backend, ChatSettings, Request

    Judge = Callable[[Sequence[int], Sequence[Answer]], list["Verdict"]]

_TOGETHER = 20  # answers judged at once
_WAIT = 0.5  # seconds that an answer waits for others, where others come


@dataclass(frozen=True)
class Verdict:
    """What a step makes of one answer: `kept` of the `wanted` things can be used; `reason` is why not more."""

    value: Any
    kept: int
    wanted: int
    reason: str | None = None


def make_backend(settings: ChatSettings) -> Backend:
    """The backend that `settings` names; a local model is loaded here."""
    if settings.backend == "endpoint":
        from .endpoint import EndpointBackend

        return EndpointBackend(settings)
    from .local_model import LocalBackend

    return LocalBackend(settings)


class Chat:
    """Asks, keeps and counts answers. Without :meth:`opened` nothing is kept on disk."""

    def __init__(self, settings: ChatSettings) -> None:
        self.settings = settings
        self.backend = make_backend(settings)
        self.journal = Journal()
        self.account = Account()
        self.watch = Watch(settings)

    @contextmanager
    def opened(self, journal: Path, progress: Path) -> Iterator[None]:
        """Keep answers in the file `journal` and show in the file `progress` how far it is; the account starts anew."""
        with Journal(journal) as self.journal:
            self.account = Account(progress, self.settings)
            yield
            self.account.close()
        self.journal = Journal()

    def ask(self, requests: Iterable[Request], judge: Judge, round: int = 1) -> list[Verdict]:
        """Verdicts in the order of `requests`. The journal is asked first, and equal requests are asked once.

        Args:
            judge: is given positions and answers of some requests at a time, soon after they arrive.
            round: how often these things have been asked for, with this time; survivors are counted by round.

        Raises:
            StoppedEarly: less can be used than `stop_below` demands.
        """
        requests = list(requests)
        self.account.plan(len(requests))
        verdicts: list[Verdict | None] = [None] * len(requests)
        equal: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            equal.setdefault(request.key(self.settings), []).append(i)
        arrived: list[tuple[list[int], Answer, bool]] = []
        judged_at = time.monotonic()

        def judge_arrived() -> None:
            nonlocal judged_at
            flat = [(i, answer) for positions, answer, _ in arrived for i in positions]
            for (i, _), verdict in zip(flat, judge(*zip(*flat, strict=True)) if flat else (), strict=True):
                verdicts[i] = verdict
            for positions, answer, reused in arrived:
                for i in positions:
                    self.account.add(answer, verdicts[i], round, reused, shared=i != positions[0])
                first = positions[0]
                self.account.notes |= self.watch.see(requests[first], answer, verdicts[first], self.backend.refusal)
                self.watch.stop()
            arrived.clear()
            self.account.show()
            judged_at = time.monotonic()

        def take(positions: list[int], answer: Answer, reused: bool) -> None:
            arrived.append((positions, answer, reused))
            # some at a time, since judges parse in batches, but not much later than they came
            if len(arrived) >= _TOGETHER or time.monotonic() - judged_at > _WAIT:
                judge_arrived()

        fresh: list[tuple[str, list[int]]] = []
        for key, positions in equal.items():
            kept = self.journal.get(key)
            if kept is not None:
                take(positions, kept, reused=True)
            else:
                fresh.append((key, positions))

        def keep(at: int, answer: Answer) -> None:
            if answer.failure is None:
                self.journal.put(fresh[at][0], answer)

        if fresh:
            asked = [requests[positions[0]] for _, positions in fresh]
            self.backend.ask(asked, keep, lambda at, answer: take(fresh[at][1], answer, reused=False))
        judge_arrived()
        return verdicts
