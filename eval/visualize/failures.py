"""FG-OVD rows that a model gets wrong: the image, the box, the true caption and the one that won."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dataset_scripts.pages import picture_url
from eval.embed import Embedder
from eval.images import Boxes, ImageSource
from eval.scoring import gathered_scores
from eval.tasks.base import Task, check_images
from eval.tasks.matching import MatchRow, embed_matches
from eval.visualize.pages import LONGEST, NormalizedBox, draw_boxed, with_box, write_page
from eval.visualize.similarity import wrapped


@dataclass
class Failure:
    """One wrong row; `margin` is by how much the winner's cosine is higher."""

    image: ImageSource
    box: NormalizedBox
    truth: str
    winner: str
    margin: float
    place: int  # of the true caption, counted from 1


def find_failures(task: Task, embedder: Embedder, subset: str, count: int) -> tuple[list[Failure], int, int]:
    """The failures of one subset, the clearest first.

    Args:
        task: fgovd or negatives. subset: hard, medium, easy, trivial, or negatives. count: how many at most.
    Returns:
        the failures, how many rows are wrong, how many there are.
    Raises:
        ValueError: a task without such rows.
    """
    data = task.load()
    task.check(data)
    rows: dict[str, list[MatchRow]] = data if isinstance(data, dict) else {"negatives": data}
    if subset not in rows:
        raise ValueError(f"task {task.name} has the subsets {', '.join(rows)}; got {subset!r}.")
    check_images(task, [row.image for row in rows[subset]], embedder.allow_missing)
    matches = embed_matches(task, embedder, {subset: rows[subset]})
    kept = matches.rows[subset]
    scores = gathered_scores(matches.regions[subset], matches.texts, matches.candidates(subset))
    margins = scores[:, 1:].max(1) - scores[:, 0]
    wrong = np.flatnonzero(margins >= 0)
    chosen = wrong[np.argsort(-margins[wrong], kind="stable")][:count]
    failures = []
    for i in chosen:
        row = kept[i]
        box = np.clip(Boxes(row.box[None], row.size).normalized()[0], 0, 1)
        winner = row.texts[1 + int(scores[i, 1:].argmax())]
        place = 1 + int((scores[i, 1:] >= scores[i, 0]).sum())
        failures.append(Failure(row.image, tuple(map(float, box)), row.texts[0], winner, float(margins[i]), place))
    return failures, len(wrong), len(kept)


def write_failures(folder: Path, failures: list[Failure], title: str) -> list[Path]:
    """Write failures.html, and failures.png with the first twelve."""
    pictures = [picture_url(with_box(failure.image.open(), failure.box), LONGEST) for failure in failures]
    write_page(folder / "failures.html", title, failures=list(zip(failures, pictures, strict=True)))
    return [folder / "failures.html", *([_contact_sheet(folder / "failures.png", failures[:12])] if failures else [])]


def _contact_sheet(path: Path, failures: list[Failure]) -> Path:
    from eval.visualize.figures import require_matplotlib

    require_matplotlib()
    from matplotlib.figure import Figure

    columns = min(4, len(failures))
    rows = -(-len(failures) // columns)
    figure = Figure(figsize=(3.4 * columns, 4.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, failure in zip(axes.flat, failures, strict=False):
        image = failure.image.open()
        image.thumbnail((480, 480), Image.Resampling.LANCZOS)
        draw_boxed(axis, image, failure.box)
        axis.set_title(
            f"won: {wrapped(failure.winner, 38)}\ntrue: {wrapped(failure.truth, 38)}", fontsize=8, loc="left"
        )
    figure.savefig(path, dpi=110, bbox_inches="tight", pad_inches=0.1)  # else titles of four lines are cut
    return path
