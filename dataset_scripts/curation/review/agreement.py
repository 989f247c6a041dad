"""The rate of good negatives, and of agreement, from a person's marks on the sheet, with confidence intervals."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from fgclip.command_line import Parser, run_command

_Z = 1.959963984540054  # 97.5 % point of the normal distribution


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def wilson(successes: float, total: int, z: float = _Z) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) of nothing."""
    if total == 0:
        return Interval(0.0, 1.0)
    p = successes / total
    center = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return Interval(max(0.0, center - half), min(1.0, center + half))


def qualified(marks: dict[str, str]) -> dict[str, Any]:
    """The share marked good (the paper's 98.9 %) with its interval.

    Negatives of one region are alike, so the second interval takes regions as units: the ratio estimator's normal
    interval with the variance between regions (Cochran 1977, equation 9A.7).

    Args:
        marks: "region/negative" → "good" or "bad"; what is not marked is not counted.
    """
    regions: dict[str, list[int]] = {}
    for key, mark in marks.items():
        if mark not in ("good", "bad"):
            raise ValueError(f"The mark of {key!r} is {mark!r}; it must be 'good' or 'bad'.")
        regions.setdefault(key.rsplit("/", 1)[0], []).append(mark == "good")
    total = sum(len(r) for r in regions.values())
    good = sum(sum(r) for r in regions.values())
    result = {"marked": total, "good": good, "regions": len(regions)}
    if total:
        rate = good / total
        result.update(rate=rate, interval=wilson(good, total))
        n = len(regions)
        if n > 1:
            mean = total / n
            variance = sum((sum(r) - rate * len(r)) ** 2 for r in regions.values()) / (n * (n - 1) * mean * mean)
            half = _Z * math.sqrt(variance)
            result["interval_by_region"] = Interval(max(0.0, rate - half), min(1.0, rate + half))
    return result


def agreement(first: dict[str, str], second: dict[str, str]) -> dict[str, Any]:
    """How often two markings agree on what both marked, with Wilson's interval, and Cohen's kappa (Cohen 1960).

    kappa is None where chance agreement is certain (both gave one and the same mark throughout).
    """
    both = sorted(set(first) & set(second))
    same = sum(first[key] == second[key] for key in both)
    result: dict[str, Any] = {"both_marked": len(both), "agreed": same}
    if both:
        rate = same / len(both)
        a, b = (Counter(marks[key] for key in both) for marks in (first, second))
        chance = sum(a[mark] * b[mark] for mark in a) / len(both) ** 2
        kappa = (rate - chance) / (1 - chance) if chance < 1 else None
        result.update(rate=rate, interval=wilson(same, len(both)), kappa=kappa)
    return result


def load_marks(path: str | Path) -> tuple[dict[str, str], dict[str, str]]:
    """A person's marks and the automatic ones from the file that the sheet saves."""
    raw = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or not isinstance(raw.get("marks"), dict):
        raise ValueError(f'{path} is not a file of marks: it needs {{"marks": {{"region/negative": "good"|"bad"}}}}.')
    return raw["marks"], raw.get("automatic", {})


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("marks", nargs="+", help="files saved from the sheet; two or more are compared in pairs")
    options = parser.parse_args(arguments)
    loaded = {path: load_marks(path) for path in options.marks}
    report: dict[str, Any] = {"qualified": {}, "with_automatic_checks": {}, "between_people": {}}
    for path, (marks, automatic) in loaded.items():
        report["qualified"][path] = qualified(marks)
        report["with_automatic_checks"][path] = agreement(marks, automatic)
    for i, a in enumerate(options.marks):
        for b in options.marks[i + 1 :]:
            report["between_people"][f"{a} and {b}"] = agreement(loaded[a][0], loaded[b][0])
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    run_command(main)
