"""Watching a run: waiting for data is timed, and named tasks are evaluated while it trains."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Trainer

from eval.arguments import parse_options
from eval.runner import evaluate_model
from eval.tasks import make_task

from .arguments import FGCLIPTrainingArguments
from .planning.devices import find_device
from .run_log import RunLog

EvalTasks = dict[str, dict[str, Any]]


def eval_tasks(args: FGCLIPTrainingArguments) -> EvalTasks | None:
    """Options by task, checked before any work; None where no task is named.

    Raises:
        ValueError: an unknown task or option, or tasks without something that starts them.
    """
    names = [name for part in args.eval_tasks or () for name in part.split(",") if name]
    if not names:
        if args.eval_strategy != "no":
            raise ValueError(f"Received eval_strategy={args.eval_strategy.value} and no --eval_tasks to evaluate.")
        return None
    if args.eval_strategy == "no" and not args.eval_on_start:
        raise ValueError(f"Received eval_tasks {names}; say when: --eval_strategy steps --eval_steps N, or epoch.")
    options = parse_options(args.eval_task_options or [], names)
    tasks = {name: {"data": args.eval_data, **options.get(name, {})} for name in names}
    for name, values in tasks.items():
        make_task(name, values).load()  # a missing file must not be found after hours
    return tasks


def peak_flops(args: FGCLIPTrainingArguments) -> float | None:
    """Of one device: as given, or from its maker's data sheet; None where neither is known."""
    if args.peak_tflops:
        return args.peak_tflops * 1e12
    if args.device.type == "cuda":
        device = find_device(torch.cuda.get_device_name(args.device))
        return device.bf16_flops if device else None
    return None


class WatchedTrainer(Trainer):
    """Trainer that evaluates tasks by name and knows how long it waited for data.

    `eval_dataset` holds the options of each task; `eval_strategy`, `metric_for_best_model` (`retrieval_i2t_r1`, …) and
    `load_best_model_at_end` work as with any Trainer. All processes share the work.
    """

    run_log: RunLog

    def get_batch_samples(self, *arguments: Any, **settings: Any) -> tuple[list, torch.Tensor | int | None]:
        start = time.perf_counter()
        batches, items = super().get_batch_samples(*arguments, **settings)
        self.run_log.add_wait(time.perf_counter() - start)
        return batches, items

    def evaluate(
        self,
        eval_dataset: Mapping[str, Mapping[str, Any]] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Scores of tasks, as fractions, under `eval_TASK_SCORE`.

        Args:
            eval_dataset: task → options; by default those of the arguments.
        """
        with self.run_log.paused():
            results = evaluate_model(
                self.accelerator.unwrap_model(self.model),
                self.processing_class,
                eval_dataset or self.eval_dataset,
                batch_size=self.args.per_device_eval_batch_size,
                num_workers=self.args.dataloader_num_workers,
                precision="bfloat16" if self.args.bf16 else "float32",
                progress=not self.args.disable_tqdm,
            )
        metrics = {
            f"{metric_key_prefix}_{task}_{name}": score.value
            for task, result in results.items()
            for name, score in result.scores.items()
        }
        metrics[f"{metric_key_prefix}_runtime"] = sum(result.seconds for result in results.values())
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, *arguments: Any, **settings: Any) -> None:
        with self.run_log.paused():
            super()._save_checkpoint(*arguments, **settings)
