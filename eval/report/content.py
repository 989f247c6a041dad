"""Results → a report: every table beside the paper's rows, the breakdown, the settings, and the comparison of two runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eval.metrics import paired_difference
from eval.report.document import Cell, Document, Section, Table
from eval.report.paper import BENCHMARK_COUNTS, PAPER, PaperTable
from eval.report.paper_fgclip2 import tables_beside
from eval.report.table import control_text, interval_text, left_out_text, percent
from eval.results import Result, Score

NOTE = (
    "All scores in percent. Ties count as wrong; ties / count is what counting them as right would add. The blind control gives "
    "every row a region or the whole of another image, so it scores what the captions alone give away. Intervals are 95 % bootstrap "
    "intervals over images, and exact binomial ones where all are right or all wrong. The mark in a bar is the chance level."
)


def report(results: Mapping[str, Result], earlier: Mapping[str, Result] | None = None) -> Document:
    """The whole report.

    Args:
        results: label → result, of one model.
        earlier: results of another run to compare with.
    """
    models = dict.fromkeys(str(result.settings.get("model", "a model")) for result in results.values())
    sections = [
        Section(
            "All scores",
            [
                NOTE,
                Table(
                    _HEADER, [_row(label, n, s) for label, r in results.items() for n, s in r.scores.items()], left=2
                ),
            ],
        )
    ]
    if earlier is not None:
        sections.append(comparison(earlier, results))
    sections += [task_section(label, result) for label, result in results.items()]
    sections.append(Section("Environment", environment_tables(results)))
    seconds = sum(result.seconds for result in results.values())
    tasks = f"{len(results)} task{'s' if len(results) != 1 else ''}"
    return Document(f"Zero-shot evaluation of {', '.join(models)}", f"{tasks}, {seconds:.0f} s", sections)


_HEADER = ["task", "score", "value", "95 % interval", "chance", "blind control", "ties", "count"]


def _row(label: str, name: str, score: Score) -> list[Cell | str]:
    bar = Cell(percent(score.value), score.value, score.chance)
    return [
        label,
        name,
        bar,
        interval_text(score),
        percent(score.chance),
        control_text(score),
        str(score.ties),
        str(score.count),
    ]


OF_ONE_TASK = ("batches", "finished")  # what a task's environment says of this run alone


def environment_tables(results: Mapping[str, Result]) -> list[str | Table]:
    """Where the tasks were run: one table for those that were run alike."""
    places: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for label, result in results.items():
        place = tuple((name, value) for name, value in result.environment.items() if name not in OF_ONE_TASK)
        places.setdefault(place, []).append(label)
    tables: list[str | Table] = []
    for place, labels in places.items():
        rows: list[list[Cell | str]] = [[name, value] for name, value in place]
        tables.append(Table(["what", "value"], rows, ", ".join(labels) if len(places) > 1 else "", left=2))
    return tables


def task_section(label: str, result: Result) -> Section:
    """One task: beside the paper, by group, and how it was made."""
    section = Section(label)
    if left_out := left_out_text(result):
        section.parts.append(f"Computed on a part of the data: {left_out}.")
    architecture = str(result.settings.get("architecture"))
    for table in tables_beside(result.task, architecture, PAPER.get(result.task, [])):
        section.parts.append(beside_paper(result, table))
    if result.breakdown:
        section.parts.append(breakdown_table(result))
    settings = {name: value for name, value in result.settings.items() if name not in ("run", "fingerprint")}
    pairs = [
        [name.replace("_", " "), str(value)]
        for name, value in (
            settings
            | result.data
            | {name: result.environment.get(name, "–") for name in OF_ONE_TASK}
            | {"seconds": result.seconds}
        ).items()
    ]
    section.parts.append(Table(["setting", "value"], pairs, "How it was made", left=2, folded=True))
    return section


def beside_paper(result: Result, table: PaperTable) -> Table:
    """This run's row, the paper's rows, and the difference to the row of the paper's model on each backbone."""
    own = [result.scores.get(name) for name in table.columns]
    means = [result.scores.get(f"{name}_class_mean") for name in table.columns]
    rows: list[list[Cell | str]] = [
        [method, backbone, *map(_paper_cell, values)] for (method, backbone), values in table.rows.items()
    ]
    mine = set()
    for backbone, scores in (("this run", own), ("this run, class mean", means)):
        if scores is own or any(means):
            cells: list[Cell | str] = [Cell(percent(s.value), s.value, s.chance) if s else "–" for s in scores]
            rows.append([str(result.settings.get("model", "this run")), backbone, *cells])
            mine.add(len(rows) - 1)
    references = [key for key in table.rows if key[0] == table.model] or list(table.rows)[-1:]
    for key in references:
        differences = [
            f"{100 * score.value - value:+.1f}" if score and value is not None else "–"
            for score, value in zip(own, table.rows[key], strict=True)
        ]
        rows.append(["difference", f"to {key[0]} {key[1]}".replace(" + ", " "), *differences])
    caption = f"Beside table {table.number} of {table.paper}{_other_data(result)}"
    if any(means):
        caption += (
            ". It leaves open whether its accuracy is over boxes, as the difference here, or the mean over classes"
        )
    return Table(["method", "backbone", *table.columns], rows, caption, left=2, own=mine)


def _other_data(result: Result) -> str:
    """A warning where this run did not decide on the benchmark's own rows, all of them."""
    counts = BENCHMARK_COUNTS.get(result.task, {})
    skipped = sum(count for name, count in result.data.items() if name.startswith("boxes_skipped"))
    found = {name: result.scores[name].count + skipped for name in counts if name in result.scores}
    differing = [
        f"{name} {found[name]:,} instead of {counts[name]:,}" for name in found if found[name] != counts[name]
    ]
    return f" — NOT COMPARABLE, this run has other data: {', '.join(differing)}" if differing else ""


def _paper_cell(value: float | None) -> Cell | str:
    return "–" if value is None else Cell(f"{value:.1f}", value / 100)


def breakdown_table(result: Result) -> Table:
    """Groups as rows: for each score its value, chance and count."""
    names = list(dict.fromkeys(name for scores in result.breakdown.values() for name in scores))
    header = ["group", *[column for name in names for column in (name, "chance", "count")]]
    rows: list[list[Cell | str]] = []
    for group, scores in result.breakdown.items():
        cells: list[Cell | str] = [group]
        for name in names:
            score = scores.get(name)
            cells += (
                [Cell(percent(score.value), score.value, score.chance), percent(score.chance), str(score.count)]
                if score
                else ["–"] * 3
            )
        rows.append(cells)
    return Table(header, rows, "By group")


def comparison(first: Mapping[str, Result], second: Mapping[str, Result]) -> Section:
    """Paired differences of all scores whose single decisions both runs hold, on the same images, boxes and texts.

    The p value is of a permutation test over images, corrected over all rows after Holm.
    """
    found: list[tuple[str, str, dict[str, float], float, float]] = []
    remarks: list[str] = []
    for label, result in second.items():
        if label not in first:
            remarks.append(f"{label} is not compared: the earlier run lacks it.")
            continue
        obstacles: dict[str, list[str]] = {}
        for name in [name for name in result.scores if name in result.outcomes]:
            if obstacle := _obstacle(first[label], result, name):
                obstacles.setdefault(obstacle, []).append(name)
                continue
            earlier, outcomes = first[label].outcomes[name], result.outcomes[name]
            difference = paired_difference(earlier, outcomes, result.groups[name])
            found.append((label, name, difference, float(np.mean(earlier)), float(np.mean(outcomes))))
        remarks += [f"{label} ({', '.join(names)}) is not compared: {reason}." for reason, names in obstacles.items()]
        changed = _changed_settings(first[label], result)
        if changed and any(place == label for place, *_ in found):
            remarks.append(f"{label} was made with other settings: {changed}.")
    corrected = holm([difference["p"] for _, _, difference, _, _ in found])
    rows: list[list[Cell | str]] = [
        [
            label, name, percent(before), percent(after), f"{100 * d['difference']:+.1f}",
            f"{100 * d['low']:+.1f} … {100 * d['high']:+.1f}", _p(p), "yes" if p < 0.05 else "no",
        ]
        for (label, name, d, before, after), p in zip(found, corrected, strict=True)
    ]  # fmt: skip
    names = [next((str(r.settings.get("model")) for r in run.values()), "?") for run in (first, second)]
    parts: list[str | Table] = []
    if rows:
        header = ["task", "score", "before", "after", "difference", "95 % interval", "p (Holm)", "significant"]
        parts.append(f"From {names[0]} to {names[1]}, decision by decision on the same data.")
        parts.append(Table(header, rows, left=2))
    return Section("Comparison of two runs", [*parts, *remarks])


def _obstacle(first: Result, second: Result, score: str) -> str:
    """Why a score of two runs is not compared decision by decision; empty where it is."""
    if score not in first.outcomes:
        return "the earlier run lacks it"
    if first.digest_for(score) is None:
        return "the earlier run does not say what it decided on (it was made by an earlier version)"
    if first.digest_for(score) != second.digest_for(score) or len(first.outcomes[score]) != len(
        second.outcomes[score]
    ):
        return "the two runs decided on other images, boxes or texts"
    return ""


# Not settings of the measurement, or another name of the same model.
_NOT_COMPARED = ("run", "fingerprint", "model", "commit")


def _changed_settings(first: Result, second: Result) -> str:
    names = dict.fromkeys([*first.settings, *second.settings])
    return "; ".join(
        f"{name.replace('_', ' ')} {first.settings.get(name, '–')} → {second.settings.get(name, '–')}"
        for name in names
        if name not in _NOT_COMPARED and first.settings.get(name) != second.settings.get(name)
    )


def holm(p_values: list[float]) -> list[float]:
    """p values corrected for the number of tests (Holm, 1979), in their order."""
    order = np.argsort(p_values, kind="stable")
    corrected, highest = [1.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
