"""Data, both stages, evaluation and figures, one after the other."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dataset_scripts.locking import writing
from dataset_scripts.sample import generate_sample
from eval.report.table import comparison_table
from eval.results import Result, write_results
from eval.runner import evaluate_model
from modeling_fgclip.family import FGCLIP, family_of

from . import RECIPES
from .arguments import FGCLIPTrainingArguments, Stage1Arguments, Stage2Arguments
from .cli import parse_arguments
from .data.sources import load_records
from .quickstart_figures import loss_figure, phrase_figure
from .random_checkpoint import create_checkpoint, texts_of
from .stages import train

# Of the test split: images for retrieval, and images whose regions are told apart by their phrases.
RETRIEVAL_IMAGES = 200
PHRASE_IMAGES = 150


def tasks(sample: Path) -> dict[str, dict[str, Any]]:
    """What is measured, all on the test split."""
    test = {"data": sample, "root": "test"}
    return {
        "retrieval": {**test, "limit": RETRIEVAL_IMAGES},
        "boxes": {"data": sample, "annotations": "boxes/instances_test.json", "images": "test/images"},
        "phrases": {**test, "limit": PHRASE_IMAGES},
        "fgovd": {"data": sample, "annotations": "fgovd", "images": "test/images"},
    }


def evaluate(checkpoint: Path, sample: Path) -> dict[str, Result]:
    model, processor = family_of(checkpoint).load(checkpoint, attn_implementation="eager")
    return evaluate_model(model, processor, tasks(sample), batch_size=128, precision="bfloat16")


def train_stage(
    stage: type[FGCLIPTrainingArguments], recipe: str, start: Path, sample: Path, output: Path, overrides: list[str]
) -> list[dict[str, float]]:
    """Runs a stage as its command line would; returns its log."""
    options = {"--config": RECIPES / recipe, "--model_name_or_path": start, "--train_data": sample / "train"}
    arguments = [str(part) for pair in {**options, "--output_dir": output}.items() for part in pair]
    print(f"\n$ accelerate launch training/{recipe[5:11]}.py {' '.join(arguments)}", flush=True)
    trainer = train(*parse_arguments(stage, [*arguments, *overrides]))
    return trainer.state.log_history


def run(
    output: Path,
    images: int,
    seed: int,
    steps: tuple[int | None, int | None],
    family: str = FGCLIP.model_type,
) -> Mapping[str, Mapping[str, Result]]:
    """Everything from the sample to the figures, in `output`, which no other command may write meanwhile."""
    with writing(output):
        return _run(output, images, seed, steps, family)


def _run(
    output: Path, images: int, seed: int, steps: tuple[int | None, int | None], family: str
) -> Mapping[str, Mapping[str, Result]]:
    started = time.perf_counter()
    sample, random, stage1, stage2 = (output / name for name in ("sample", "random", "stage1", "stage2"))
    generate_sample(sample, seed=seed, train=images, test=max(images // 16, PHRASE_IMAGES, RETRIEVAL_IMAGES))
    records = load_records([str(sample / "train")])
    suffix = "" if family == FGCLIP.model_type else f"_{family}"
    model_settings = yaml.safe_load((RECIPES / f"tiny_model{suffix}.yaml").read_text())
    create_checkpoint(model_settings, texts_of(records), random, seed)
    runs = {"random": evaluate(random, sample)}
    logs = {}
    plan = [
        ("stage 1", Stage1Arguments, f"tiny_stage1{suffix}.yaml", random, stage1, steps[0]),
        ("stage 2", Stage2Arguments, f"tiny_stage2{suffix}.yaml", stage1, stage2, steps[1]),
    ]
    for name, stage, recipe, start, folder, max_steps in plan:
        overrides = ["--seed", str(seed), *(["--max_steps", str(max_steps)] if max_steps else [])]
        logs[name] = train_stage(stage, recipe, start, sample, folder, overrides)
        runs[name] = evaluate(folder, sample)
        write_results(runs[name], folder / "results.json")
    table = comparison_table(runs)
    (output / "results.txt").write_text(table + "\n")
    (output / "logs.json").write_text(json.dumps(logs, indent=1))
    figures = [loss_figure(logs, output / "losses.png"), phrase_figure(stage2, sample, output / "similarity_maps.png")]
    print(f"\nUnseen scenes and attribute combinations, in percent:\n\n{table}\n")
    print("Figures: " + ", ".join(str(figure) for figure in figures))
    print(f"Checkpoints: {stage1}, {stage2}")
    print(f"Done in {(time.perf_counter() - started) / 60:.1f} minutes.")
    return runs
