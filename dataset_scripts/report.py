"""What was kept, what was left out and why: nothing disappears without being counted."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from dataset_scripts.atomic import write_json

OnBad = Literal["skip", "raise"]
_EXAMPLES = 20  # listed per reason


class Fault(ValueError):
    """A fault of the data, with its place."""


def _shown(received: object) -> str:
    """The beginning of a value, whatever it is: an integer of 5,000 digits and a list in a thousand lists have no text."""
    try:
        if isinstance(received, Exception):
            kind = "" if type(received) is ValueError else f"{type(received).__name__}: "
            return kind + " ".join(str(received).split())[:300]
        return f"{str(received)[:200]!r}"
    except Exception as error:
        return f"a {type(received).__name__} that cannot be shown ({type(error).__name__})"


class Report:
    """Counts of kept things and of problems by reason, with the first places of each.

    Args:
        on_bad: ``"skip"`` counts a problem and lists where it was; ``"raise"`` stops at the first.
        advice: what the error of ``"raise"`` ends with.
    """

    def __init__(
        self, on_bad: OnBad = "skip", advice: str = "mend it, or read with on_bad='skip' to count it and go on"
    ) -> None:
        if on_bad not in ("skip", "raise"):
            raise ValueError(
                f"on_bad is {on_bad!r}; it must be 'skip' (count and list) or 'raise' (stop at the first)"
            )
        self.on_bad, self.advice = on_bad, advice
        self.kept: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def keep(self, what: str, count: int = 1) -> None:
        """Counts something that goes through, such as ``"regions"``."""
        self.kept[what] += count

    def missing(self, reason: str, where: str) -> None:
        """Counts something absent that is expected to be absent at times, such as an image; never raises."""
        self.problems[reason] += 1
        listed = self.examples.setdefault(reason, [])
        if len(listed) < _EXAMPLES:
            listed.append(where.encode("utf-8", "backslashreplace").decode())  # a lone surrogate is no UTF-8

    def bad(self, reason: str, where: str, received: object = None) -> None:
        """Counts a fault of the data.

        Raises:
            Fault: a ValueError, with ``on_bad="raise"``.
        """
        shown = "" if received is None else f": {_shown(received)}"
        if self.on_bad == "raise":
            raise Fault(f"{reason} in {where}{shown}; {self.advice}")
        self.missing(reason, where + shown)

    @contextlib.contextmanager
    def entry(self, where: str, reason: str = "entry is malformed") -> Iterator[None]:
        """The boundary around the parsing of one foreign entry: whatever goes wrong inside is a fault of that entry.

        Args:
            where: file and place in it.
            reason: under which it is counted.

        Raises:
            Fault: with ``on_bad="raise"``.
        """
        try:
            yield
        except Fault:
            raise
        except Exception as error:  # nobody knows what foreign data make a parser raise
            self.bad(reason, where, error)

    def merge(self, other: Report) -> None:
        """Adds the counts of another report."""
        self.kept.update(other.kept)
        self.problems.update(other.problems)
        for reason, places in other.examples.items():
            listed = self.examples.setdefault(reason, [])
            listed.extend(places[: _EXAMPLES - len(listed)])

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; the inverse of :meth:`from_dict`."""
        return {"kept": dict(self.kept), "problems": dict(self.problems), "examples": self.examples}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Report:
        report = cls()
        report.kept.update(content["kept"])
        report.problems.update(content["problems"])
        report.examples = {reason: list(places) for reason, places in content["examples"].items()}
        return report

    def save(self, path: Path) -> None:
        """Writes the report whole or not at all."""
        write_json(path, self.as_dict())

    def __str__(self) -> str:
        lines = [f"{what:<44}{count:>12,}" for what, count in sorted(self.kept.items())]
        if self.problems:
            lines.append("left out or changed:")
        for reason, count in self.problems.most_common():
            lines.append(f"  {reason:<42}{count:>12,}  e.g. {self.examples[reason][0]}")
        return "\n".join(lines)
