"""Named tasks of `python -m eval`, run while a model trains."""

from collections.abc import Mapping
from typing import Any

from eval.arguments import parse_options
from eval.runner import evaluate_model
from eval.tasks import make_task
from modeling_fgclip import FGCLIPModel, FGCLIPProcessor

from .arguments import FGCLIPTrainingArguments

EvalTasks = Mapping[str, Mapping[str, Any]]


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


def evaluate_tasks(
    model: FGCLIPModel, processor: FGCLIPProcessor, tasks: EvalTasks, args: FGCLIPTrainingArguments, prefix: str
) -> dict[str, float]:
    """Scores as fractions under `PREFIX_TASK_SCORE`, and the seconds they took. All processes share the work."""
    results = evaluate_model(
        model,
        processor,
        tasks,
        batch_size=args.per_device_eval_batch_size,
        num_workers=args.dataloader_num_workers,
        precision="bfloat16" if args.bf16 else "float32",
        progress=not args.disable_tqdm,
    )
    scores = {
        f"{prefix}_{task}_{name}": score.value
        for task, result in results.items()
        for name, score in result.scores.items()
    }
    return scores | {f"{prefix}_runtime": sum(result.seconds for result in results.values())}
