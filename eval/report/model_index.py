"""Results in the Hub's model-index form, ready for a model card."""

from __future__ import annotations

from collections.abc import Mapping

from huggingface_hub import EvalResult, ModelCardData

from eval.llava.benchmarks import BENCHMARKS
from eval.results import Result
from eval.tasks import TASKS, Task


def eval_results(results: Mapping[str, Result]) -> list[EvalResult]:
    """One entry a score, in percent with two digits.

    The settings that move a number go along as metric arguments.
    """
    entries = []
    for label, result in results.items():
        settings = {
            k: v
            for k, v in result.settings.items()
            if k in ("resolution", "region_features", "text", "templates", "precision") and v
        }
        for name, score in result.scores.items():
            entries.append(
                EvalResult(
                    # A task of one's own may not be registered where its result is reported.
                    task_type=(TASKS | BENCHMARKS).get(result.task, Task).hub_task,
                    task_name=result.task,
                    dataset_type=label,
                    dataset_name=label,
                    metric_type=_metric(name),
                    metric_name=name,
                    metric_value=round(100 * score.value, 2),
                    metric_args=settings or None,
                )
            )
    return entries


def _metric(score: str) -> str:
    if "_R@" in score:
        return "recall"
    ending = score.rpartition("_")[2]
    return ending if ending in ("f1", "precision", "recall") else "accuracy"


def model_index_yaml(results: Mapping[str, Result], model_name: str) -> str:
    """The `model-index` block of a model card's metadata."""
    return ModelCardData(model_name=model_name, eval_results=eval_results(results)).to_yaml() + "\n"
