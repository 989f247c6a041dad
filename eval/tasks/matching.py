"""Positive against negatives on regions: FG-OVD's protocol for any rows of box, positive and negative captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from eval.images import Boxes, ImageSource, clip_boxes
from eval.metrics import top_k_accuracy
from eval.results import Result, Score
from eval.scoring import accuracy_score, gathered_scores, match_score
from eval.tasks.base import Task, require_some
from eval.tasks.reading import check_units

if TYPE_CHECKING:
    from torch import Tensor

    from eval.embed import Embedder

CLASS_ROWS = 30  # of a class in a subset; fewer leave an interval wider than ±15 points
CLASSES_SHOWN = 20  # so that a breakdown stays a table one can read


@dataclass
class MatchRow:
    """A region and its candidate captions, the positive first."""

    image: ImageSource
    box: np.ndarray  # (4,) xyxy
    size: tuple[float, float] | None  # of the image in the box's units; None: normalized
    texts: list[str]


@dataclass
class MatchSet:
    """Everything one pass has embedded: rows by subset, with their regions and texts."""

    rows: dict[str, list[MatchRow]]
    regions: dict[str, Tensor]
    texts: Tensor
    index: dict[str, int]
    groups: dict[str, np.ndarray]
    data: dict[str, int] = field(default_factory=dict)

    def candidates(self, subset: str) -> list[list[int]]:
        return [[self.index[text] for text in row.texts] for row in self.rows[subset]]


def check_matches(task: Task, subsets: Mapping[str, Sequence[MatchRow]]) -> None:
    """Refuse rows that cannot be scored.

    Raises:
        ValueError: a row without negatives; a box that is empty or outside its image; boxes in fractions where pixels are declared.
    """
    for name, rows in subsets.items():
        bare = [i for i, row in enumerate(rows) if len(row.texts) < 2]
        if bare:
            raise ValueError(
                f"task {task.name}, {name}: row {bare[0]} has no negative caption ({len(bare)} such rows); nothing to choose from."
            )
        boxes = [Boxes(np.asarray(row.box, np.float32)[None], row.size) for row in rows]
        check_units(task, boxes)
        clip_boxes(
            [box.normalized() for box in boxes],
            [f"task {task.name}, {name}, row {i}, {row.image}" for i, row in enumerate(rows)],
        )


def embed_matches(task: Task, embedder: Embedder, subsets: Mapping[str, Sequence[MatchRow]]) -> MatchSet:
    """Embed all subsets in one pass: every image once, every distinct box once, every distinct text once.

    Args:
        subsets: rows which `check_matches` let pass.
    Raises:
        ValueError: missing images, or none that can be read.
    """
    every = [row for rows in subsets.values() for row in rows]
    # image → its distinct boxes, in order of appearance
    images: dict[ImageSource, tuple[int, dict[bytes, int], list[np.ndarray], tuple | None]] = {}
    for row in every:
        _, places, boxes, size = images.setdefault(row.image, (len(images), {}, [], row.size))
        if size != row.size:
            raise ValueError(
                f"task {task.name}: two rows give {row.image} the sizes {size} and {row.size}; correct the annotations."
            )
        key = np.asarray(row.box, np.float32).tobytes()
        if key not in places:
            places[key] = len(boxes)
            boxes.append(np.asarray(row.box, np.float32))
    features, valid, clipped = embedder.regions(
        list(images), [Boxes(np.stack(boxes), size) for _, _, boxes, size in images.values()]
    )
    require_some(task, valid)
    starts = np.concatenate([[0], np.cumsum([len(boxes) for _, _, boxes, _ in images.values()])])

    def place(row: MatchRow) -> int:
        number, places, _, _ = images[row.image]
        return int(starts[number]) + places[np.asarray(row.box, np.float32).tobytes()]

    kept, regions, groups = {}, {}, {}
    for name, rows in subsets.items():
        kept[name] = [row for row in rows if valid[place(row)]]
        regions[name] = features[np.array([place(row) for row in kept[name]], dtype=np.int64)]
        groups[name] = np.array([images[row.image][0] for row in kept[name]], dtype=np.int64)
    distinct = list(dict.fromkeys(text for rows in kept.values() for row in rows for text in row.texts))
    data = {
        "images": len(images),
        "regions": int(valid.sum()),
        "texts": len(distinct),
        "rows_left_out": len(every) - sum(map(len, kept.values())),
        "boxes_clipped": clipped,
    }
    index = {text: i for i, text in enumerate(distinct)}
    return MatchSet(kept, regions, embedder.texts(distinct, "region"), index, groups, data)


def score_matches(task: Task, embedder: Embedder, matches: MatchSet, prefix: bool = True) -> Result:
    """Top-1, blind control and interval for every subset; one of which no image could be read is counted as 0 rows."""
    result = Result(
        task.name,
        {},
        settings=embedder.region_settings() | {"text": embedder.kind_of_text("region")},
        data=matches.data,
    )
    for name, rows in matches.rows.items():
        if not rows:
            result.data[f"rows_{name}"] = 0
            continue
        score, correct, _ = match_score(
            matches.regions[name], matches.texts, matches.candidates(name), matches.groups[name]
        )
        label = name if prefix else "top1"
        result.scores[label] = score
        result.outcomes[label], result.groups[label] = correct, matches.groups[name]
        result.data[f"rows_{name}"] = len(rows)
        counts = np.array([len(row.texts) for row in rows])
        usual = int(np.bincount(counts).argmax())
        result.data[f"rows_{name}_other_than_{usual - 1}_negatives"] = int((counts != usual).sum())
    return result


def add_breakdown(
    result: Result,
    matches: MatchSet,
    groups_of: Callable[[str, str], Collection[str]],
    without: Collection[str] = (),
) -> None:
    """Accuracy against the negatives of one kind alone.

    A row counts in every group of which it has a negative: its positive against these negatives, with the chance level
    of that many candidates. A negative may belong to several groups, and then counts in each.

    Args:
        groups_of: (positive, negative) → what was replaced. without: subsets that are left out.
    """
    for name, rows in matches.rows.items():
        if name in without:
            continue
        chosen: dict[str, tuple[list[int], list[list[int]]]] = {}
        for number, row in enumerate(rows):
            positive = row.texts[0]
            by_group: dict[str, list[int]] = {}
            for negative in row.texts[1:]:
                for group in groups_of(positive, negative):
                    by_group.setdefault(group, []).append(matches.index[negative])
            for group, negatives in by_group.items():
                numbers, candidates = chosen.setdefault(group, ([], []))
                numbers.append(number)
                candidates.append([matches.index[positive], *negatives])
        for group, (numbers, candidates) in sorted(chosen.items()):
            outcome = top_k_accuracy(
                gathered_scores(matches.regions[name][numbers], matches.texts, candidates),
                np.zeros(len(numbers), dtype=np.int64),
            )
            score: Score = accuracy_score(outcome, matches.groups[name][numbers])
            result.breakdown.setdefault(group, {})[_label(matches, name)] = score


def add_class_breakdown(result: Result, matches: MatchSet, class_of: Callable[[str], str]) -> None:
    """Accuracy by the object of the positive caption, against all negatives; the groups are called "class: bottle".

    Of the classes, those with at least `CLASS_ROWS` rows in a subset, and of these the `CLASSES_SHOWN` with most rows in all.

    Args:
        class_of: positive caption → object.
    """
    classes = {name: [class_of(row.texts[0]) for row in rows] for name, rows in matches.rows.items()}
    counts = {name: Counter(found) for name, found in classes.items()}
    common = {group for count in counts.values() for group, rows in count.items() if rows >= CLASS_ROWS}
    total = sum(counts.values(), Counter())
    for group in sorted(common, key=lambda group: (-total[group], group))[:CLASSES_SHOWN]:
        for name, found in classes.items():
            numbers = [number for number, own in enumerate(found) if own == group]
            if len(numbers) >= CLASS_ROWS:
                candidates = [[matches.index[text] for text in matches.rows[name][number].texts] for number in numbers]
                outcome = top_k_accuracy(
                    gathered_scores(matches.regions[name][numbers], matches.texts, candidates),
                    np.zeros(len(numbers), dtype=np.int64),
                )
                score = accuracy_score(outcome, matches.groups[name][numbers])
                result.breakdown.setdefault(f"class: {group}", {})[_label(matches, name)] = score


def _label(matches: MatchSet, subset: str) -> str:
    return subset if len(matches.rows) > 1 else "top1"
