"""Plain-text tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.results import Result, Score


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction × 100, or a dash."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def control_text(score: Score) -> str:
    if score.control is None:
        return "–"
    return percent(score.control) + (f" ± {percent(score.control_std)}" if score.control_std is not None else "")


def interval_text(score: Score) -> str:
    return "–" if score.low is None else f"{percent(score.low)}–{percent(score.high)}"


def left_out_text(result: Result) -> str:
    """Which images the task computed without, or nothing where it had them all."""
    missing, corrupt = (result.data.get(name, 0) for name in ("images_missing", "images_corrupt"))
    return f"left out {missing} missing and {corrupt} unreadable images" if missing or corrupt else ""


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows as aligned columns; the first `left` columns are flush left, numbers flush right."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()

    return "\n".join([line(table[0]), "  ".join("-" * width for width in widths), *map(line, table[1:])])


def results_table(results: Mapping[str, Result]) -> str:
    """Every score of every task with its chance level, blind control, interval and ties; values in percent."""
    rows = [
        [
            label,
            name,
            percent(s.value),
            percent(s.chance),
            control_text(s),
            interval_text(s),
            str(s.ties),
            str(s.count),
        ]
        for label, result in results.items()
        for name, s in result.scores.items()
    ]
    header = ["task", "score", "value", "chance", "blind control", "95 % interval", "ties", "count"]
    return aligned(header, rows, left=2)


def comparison_table(runs: Mapping[str, Mapping[str, Result]]) -> str:
    """Several runs side by side, e.g. random → stage 1 → stage 2; chance and the last run's blind control beside them.

    Args:
        runs: heading of a column → label of a task → result.
    """
    names: dict[tuple[str, str], Score] = {}
    for results in runs.values():
        for label, result in results.items():
            names.update({(label, name): score for name, score in result.scores.items()})
    rows = []
    for (label, name), last in names.items():
        cells = [runs[run][label].scores.get(name) if label in runs[run] else None for run in runs]
        rows.append(
            [label, name, *[percent(c.value) if c else "–" for c in cells], percent(last.chance), control_text(last)]
        )
    return aligned(["task", "score", *runs, "chance", "blind control"], rows, left=2)
