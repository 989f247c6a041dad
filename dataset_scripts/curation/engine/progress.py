"""Progress of one stage: in records, or in requests where a model is asked."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from dataset_scripts.progress import progress_bar

if TYPE_CHECKING:
    from .input import Unit
    from .stages import Stage

_LOOK = 0.5  # seconds


class BudgetExceeded(ValueError):
    """The account of a chat step passed `max_cost`. The run can be resumed with a higher one."""


class Progress:
    """A bar with rate, remaining time, the commonest failures and the cost.

    Shards that ask a model show their account in a file (:meth:`Stage.progress_path`), whichever process or machine works on
    them; a thread reads these, so that the bar moves with every answer.
    """

    def __init__(self, stage: Stage, units: list[Unit], bars: int, position: int) -> None:
        self.stage = stage
        self.sizes = [unit.size for unit in units]
        self.failures: Counter[str] = Counter()
        self.usage: Counter[str] = Counter()  # of the shards that are done
        self._done = 0
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._begun, self._tokens = time.monotonic(), None
        asks = stage.chat is not None
        self.bar = progress_bar(
            total=None if asks else sum(self.sizes),
            desc=f"{stage.name:11}",
            unit="req" if asks else "rec",
            position=position if bars > 1 else None,
            dynamic_ncols=True,
        )
        for index in range(stage.shards):
            stage.progress_path(index).unlink(missing_ok=True)  # of a run that was killed
            if stage.done(index):
                self._count(stage.statistics(index))
        self.bar.n = self.bar.initial = self.usage["requests"] if asks else self.bar.n
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if asks:
            self._thread.start()
        self._show()

    def update(self, statistics: dict[str, Any]) -> None:
        """One more shard is done.

        Raises:
            BudgetExceeded: the stage has cost more than it may.
        """
        with self._lock:
            self._count(statistics)
            self._show()
        limit = self.stage.chat.max_cost if self.stage.chat is not None else None
        if limit is not None and self.usage["cost"] > limit:
            raise BudgetExceeded(
                f"{self.stage.name} has cost {self.usage['cost']:.2f}, and max_cost is {limit:.2f}. What was answered is "
                "kept; raise max_cost and run again to go on."
            )

    def _count(self, statistics: dict[str, Any]) -> None:
        self._done += 1
        self.failures.update(statistics.get("failures") or {})
        self.usage.update(statistics.get("usage") or {})
        self._say(statistics.get("notes") or {})
        if self.stage.chat is None:
            self.bar.n += self.sizes[statistics["shard"]]

    def _watch(self) -> None:
        while not self._end.wait(_LOOK):
            with self._lock:
                self._show()

    def _show(self) -> None:
        failures, usage, begun = self.failures, self.usage, self._done
        if self.stage.chat is not None:
            failures, usage = failures.copy(), usage.copy()
            for path in self.stage.progress_path(0).parent.glob("[0-9]*.json"):
                try:
                    shown = json.loads(path.read_text(encoding="utf-8"))
                except FileNotFoundError:  # this shard has just been finished
                    continue
                usage.update(shown["usage"])
                failures.update(shown["failures"])
                begun += 1
                self._say(shown["notes"])
            # shards that were begun stand for the others
            self.bar.total = round(usage["planned"] * self.stage.shards / begun) if begun else None
            self.bar.n = usage["requests"]
        shown = [f"{reason.split(': ', 1)[-1]} {n}" for reason, n in failures.most_common(3)]
        if usage["wanted"]:
            shown.insert(0, f"usable {usage['kept'] / usage['wanted']:.0%}")
        if usage["completion_tokens"]:
            self._tokens = usage["completion_tokens"] if self._tokens is None else self._tokens
            rate = (usage["completion_tokens"] - self._tokens) / max(time.monotonic() - self._begun, 1e-9)
            shown.append(f"{rate:.0f} tokens/s")
        if usage["cost"]:
            shown.append(f"cost {usage['cost']:.2f}")
        self.bar.set_postfix_str(", ".join(shown))

    def _say(self, notes: dict[str, str]) -> None:
        for subject, text in notes.items():
            if subject not in self._said:
                self._said.add(subject)
                self.bar.write(f"warning: {self.stage.name}: {text}", file=sys.stderr)

    def close(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._show()
        self.bar.close()
