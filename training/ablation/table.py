"""The table of an ablation, and the paper's below it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataset_scripts.atomic import write_text
from eval import Result
from eval.environment import environment
from eval.report.document import Cell, Document, Section, Table
from eval.report.html import to_html
from eval.report.markdown import to_markdown
from eval.report.paper import PAPER
from eval.report.table import percent

Scores = dict[str, dict[str, list[Result]]]  # variant → task → one result a seed
TITLES = {6: "Ablation of the losses", 8: "Other methods on the same data"}
PAPERS = {
    6: "Table 6 of the paper (ViT-B/16, 12 M images)",
    8: "Table 8 of the paper (ViT-B/16, 12 M images unless said)",
}


def ablation_table(scores: Scores) -> Table:
    """Scores as rows, variants as columns: mean ± standard deviation over seeds, in percent, and the chance level."""
    rows: list[list[Cell | str]] = []
    last = list(scores.values())[-1]
    for task, results in last.items():
        for name, score in results[0].scores.items():
            cells: list[Cell | str] = []
            for by_task in scores.values():
                values = np.array([result.scores[name].value for result in by_task[task]])
                spread = f" ± {percent(values.std(ddof=1))}" if len(values) > 1 else ""
                cells.append(Cell(f"{percent(float(values.mean()))}{spread}", float(values.mean()), score.chance))
            controls = [result.scores[name].control for result in results]
            control = "–" if controls[0] is None else percent(float(np.mean(controls)))
            rows.append([task, name, *cells, percent(score.chance), control])
    return Table(["task", "score", *scores, "chance", "blind control"], rows, left=2)


def paper_table(number: int) -> Table:
    """A table of the paper, one row a method."""
    parts = [(task, part) for task, parts in PAPER.items() for part in parts if part.number == number]
    header = ["method", *[f"{task} {column}" for task, part in parts for column in part.columns]]
    rows: list[list[Cell | str]] = [
        [method, *[f"{value:.1f}" for _, part in parts for value in part.rows[method, backbone] if value is not None]]
        for method, backbone in parts[0][1].rows
    ]
    return Table(header, rows)


def write_ablation(output: Path, scores: Scores, about: str, number: int = 6) -> list[Path]:
    """Write ablation.md and ablation.html: our table, and the paper's of that number below it."""
    pairs: list[list[Cell | str]] = [[name, value] for name, value in environment().items()]
    document = Document(
        TITLES[number],
        about,
        [
            Section("Unseen data", [ablation_table(scores)]),
            Section(PAPERS[number], [paper_table(number)]),
            Section("Environment", [Table(["what", "value"], pairs, left=2)]),
        ],
    )
    write_text(output / "ablation.md", to_markdown(document))
    write_text(output / "ablation.html", to_html(document))
    return [output / "ablation.md", output / "ablation.html"]
