"""Training and evaluation of the variants, seed by seed; what is finished is read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval import Result, evaluate_model
from eval.report.write import load_run
from eval.results import save_result
from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from training.cli import parse_arguments
from training.data.sources import load_records
from training.random_checkpoint import create_checkpoint, texts_of
from training.stages import train

from .setup import Setup, read_recipe
from .table import Scores, write_ablation
from .variants import Variant


def run_seed(setup: Setup, seed: int) -> dict[str, dict[str, Result]]:
    """Train and evaluate all variants of one seed; finished ones are read back.

    Returns:
        variant → task → result.
    """
    folder = setup.output / f"seed_{seed}"
    results = {}
    if setup.start:
        results["start"] = _evaluated(setup, setup.start, setup.output / "start")
    else:
        if not (folder / "random" / "model.safetensors").exists():
            texts = texts_of(load_records([str(setup.train_data)]))
            create_checkpoint(read_recipe(setup.model_recipe), texts, folder / "random", seed)
        results["random"] = _evaluated(setup, folder / "random", folder / "random")
    for variant in setup.variants:
        checkpoint = folder / variant.folder
        if not (checkpoint / "trainer_state.json").exists():  # saved last
            _train(setup, variant, setup.start or folder / variant.start, checkpoint, seed)
        results[variant.name] = _evaluated(setup, checkpoint, checkpoint)
    return results


def _train(setup: Setup, variant: Variant, start: str | Path, checkpoint: Path, seed: int) -> None:
    options: dict[str, Any] = {
        "--config": setup.stage_recipes[variant.stage],
        "--model_name_or_path": start,
        "--train_data": setup.train_data,
        "--output_dir": checkpoint,
        "--seed": seed,
    }
    if setup.steps[variant.stage]:
        options["--max_steps"] = setup.steps[variant.stage]
    print(f"\nseed {seed}: {variant.name}", flush=True)
    command = [str(part) for pair in options.items() for part in pair]
    train(*parse_arguments(variant.stage, [*command, "--losses", *variant.losses]))


def _evaluated(setup: Setup, checkpoint: str | Path, output: Path) -> dict[str, Result]:
    stored = load_run(output) if (output / "results").exists() else {}
    if set(setup.tasks) <= set(stored):
        return {task: stored[task] for task in setup.tasks}
    model = FGCLIPModel.from_pretrained(checkpoint, attn_implementation="eager")
    results = evaluate_model(model, FGCLIPProcessor.from_pretrained(checkpoint), setup.tasks, precision="bfloat16")
    for task, result in results.items():
        save_result(result, output / "results", task)
    return results


def run(setup: Setup, seeds: Sequence[int], about: str) -> Scores:
    """All seeds, after `begin`; the table is written anew after each, so that a long run can be watched."""
    scores: Scores = {}
    for number, seed in enumerate(seeds):
        for variant, by_task in run_seed(setup, seed).items():
            for task, result in by_task.items():
                scores.setdefault(variant, {}).setdefault(task, []).append(result)
        done = ", ".join(map(str, seeds[: number + 1]))
        for path in write_ablation(setup.output, scores, f"{about}; seeds so far: {done}", setup.table):
            print(f"wrote {path}")
    return scores
