"""What the tests of the tasks share: one task on one model."""

from __future__ import annotations

import json

from eval import evaluate_model
from eval.adapters import ModelAdapter


def run(model: ModelAdapter, task: str, allow_missing: bool = False, **options):
    return evaluate_model(model, tasks={task: options}, progress=False, allow_missing=allow_missing)[task]


def values(result) -> dict[str, float]:
    return {name: round(score.value, 4) for name, score in result.scores.items()}


def write_json(path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
