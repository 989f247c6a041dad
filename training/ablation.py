"""The ablation of table 6: stage 1, then stage 2 with the global loss, + regional, + hard negatives, over several seeds.

    python -m training.ablation --output outputs/ablation
    python -m training.ablation --output outputs/ablation_photos --train_data DIR/train --test_data DIR/dev

Without --train_data it generates the sample. Every model is trained from random weights and evaluated on unseen data; a
run that was stopped goes on where it was, and --seeds may grow; with other data, recipes or steps it is refused. The table
gives mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import logging as transformers_logging

from dataset_scripts.atomic import write_text
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.formats.files import read_yaml
from dataset_scripts.sample import generate_sample
from eval import Result, evaluate_model
from eval.environment import environment
from eval.names import name_of
from eval.report.document import Cell, Document, Section, Table
from eval.report.html import to_html
from eval.report.markdown import to_markdown
from eval.report.paper import PAPER
from eval.report.table import percent
from eval.report.write import load_run
from eval.results import save_result
from modeling_fgclip import FGCLIPModel, FGCLIPProcessor

from .arguments import FGCLIPTrainingArguments, Stage1Arguments, Stage2Arguments
from .cli import parse_arguments
from .data.sources import load_records
from .scratch import create_checkpoint, texts_of
from .stages import train

RECIPES = Path(__file__).parent / "recipes"
SETUP_FILE = "setup.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """One row of table 6: which checkpoint it starts from, and the weights of its losses (alpha, beta)."""

    name: str
    start: str
    stage: type[FGCLIPTrainingArguments]
    regional: float = 0.0
    hard: float = 0.0

    @property
    def folder(self) -> str:
        return "".join(letter if letter.isalnum() else "_" for letter in self.name).strip("_")


VARIANTS = (
    Variant("stage 1", "random", Stage1Arguments),
    Variant("stage 2 global", "stage_1", Stage2Arguments),
    Variant("stage 2 + regional", "stage_1", Stage2Arguments, regional=0.1),
    Variant("stage 2 + regional + hard", "stage_1", Stage2Arguments, regional=0.1, hard=0.5),
)
Scores = dict[str, dict[str, list[Result]]]  # variant → task → one result a seed


@dataclass(frozen=True)
class Setup:
    """What is trained on what, and how it is measured.

    Attributes:
        test_data: None for the generated sample, which holds its own.
        images: scenes to generate for training; None with data of one's own.
        steps: of each stage, instead of its recipe's; None for the recipe's.
    """

    output: Path
    train_data: Path
    test_data: Path | None
    images: int | None
    tasks: Mapping[str, Mapping[str, Any]]
    model_recipe: Path
    stage_recipes: Mapping[type[FGCLIPTrainingArguments], Path]
    steps: Mapping[type[FGCLIPTrainingArguments], int | None]


def described(setup: Setup) -> dict[str, Any]:
    """All that a number of the table depends on beside the seed, as JSON types; no path, so that folders may move.

    Raises:
        ValueError: a recipe that is not there or holds no settings.
    """
    stages = {}
    for number, stage in enumerate((Stage1Arguments, Stage2Arguments), 1):
        steps = setup.steps[stage]
        stages[f"stage{number}"] = _recipe(setup.stage_recipes[stage]) | ({"max_steps": steps} if steps else {})
    if setup.test_data is None:
        data: dict[str, Any] = {"images": setup.images}
    else:
        data = {"train_data": _data_identity(setup.train_data), "test_data": _data_identity(setup.test_data)}
    tasks = {
        name: {option: value for option, value in options.items() if not isinstance(value, Path)}
        for name, options in setup.tasks.items()
    }
    variants = {v.name: {"start": v.start, "alpha": v.regional, "beta": v.hard} for v in VARIANTS}
    whole = {**data, "model": _recipe(setup.model_recipe), **stages, "tasks": tasks, "variants": variants}
    return json.loads(json.dumps(whole, default=str))


def _recipe(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"{path} is not a file; a recipe is a YAML file as those in {RECIPES.name}/ beside this script."
        )
    return read_yaml(path)


def _data_identity(folder: Path) -> str:
    """Names and sizes of all files, and the contents of the annotations, whose size an edit may leave as it was."""
    digest = hashlib.sha256(fingerprint(str(folder), times=False).encode())
    for path in sorted((folder / "jsonfiles").glob("*.json*")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (`stage1.max_steps`, value)."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def check_setup(output: Path, setup: Mapping[str, Any]) -> None:
    """Refuse a folder whose checkpoints and results come from another setup: they would be reported as this one's.

    Args:
        setup: of `described`.
    Raises:
        ValueError: another setup, or a file that cannot be read.
    """
    path = output / SETUP_FILE
    if not path.exists():
        if any(output.glob("seed_*/*")):
            logger.warning(
                "%s holds models but no %s: it was begun by an earlier version, and whether data, recipes and steps "
                "were those of now cannot be told. Its models are taken as they are; delete the folder if in doubt.",
                output,
                SETUP_FILE,
            )
        return
    try:
        found, now = dict(_flat(json.loads(path.read_text(encoding="utf-8")))), dict(_flat(setup))
    except (json.JSONDecodeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); take another --output, or delete {output}.") from None
    names = [name for name in {**found, **now} if found.get(name) != now.get(name)]
    if names:
        changes = "; ".join(
            f"{name} was {found.get(name, 'not set')}, is {now.get(name, 'not set')}" for name in names
        )
        raise ValueError(
            f"{output} holds models and results of another setup ({changes}). Take another --output, or delete the folder."
        )


def begin(setup: Setup, dry: bool = False) -> None:
    """Check the output folder, generate the sample where no data was given, and note the setup; `dry` only checks.

    Raises:
        ValueError: the folder holds another setup or another sample, or a recipe is wrong.
    """
    settings = described(setup)
    check_setup(setup.output, settings)
    if dry:
        return
    if setup.images is not None:
        generate_sample(setup.train_data.parent, seed=0, train=setup.images, test=max(setup.images // 8, 32))
    write_text(setup.output / SETUP_FILE, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def run_seed(setup: Setup, seed: int) -> dict[str, dict[str, Result]]:
    """Train and evaluate all variants of one seed; finished ones are read back.

    Returns:
        variant → task → result.
    """
    folder = setup.output / f"seed_{seed}"
    if not (folder / "random" / "model.safetensors").exists():
        texts = texts_of(load_records([str(setup.train_data)]))
        create_checkpoint(_recipe(setup.model_recipe), texts, folder / "random", seed)
    results = {"random": _evaluated(setup, folder / "random")}
    for variant in VARIANTS:
        checkpoint = folder / variant.folder
        if not (checkpoint / "trainer_state.json").exists():  # saved last
            _train(setup, variant, folder / variant.start, checkpoint, seed)
        results[variant.name] = _evaluated(setup, checkpoint)
    return results


def _train(setup: Setup, variant: Variant, start: Path, checkpoint: Path, seed: int) -> None:
    options: dict[str, Any] = {
        "--config": setup.stage_recipes[variant.stage],
        "--model_name_or_path": start,
        "--train_data": setup.train_data,
        "--output_dir": checkpoint,
        "--seed": seed,
        "--regional_loss_weight": variant.regional,
        "--hard_loss_weight": variant.hard,
    }
    if setup.steps[variant.stage]:
        options["--max_steps"] = setup.steps[variant.stage]
    print(f"\nseed {seed}: {variant.name}", flush=True)
    train(*parse_arguments(variant.stage, [str(part) for pair in options.items() for part in pair]))


def _evaluated(setup: Setup, checkpoint: Path) -> dict[str, Result]:
    stored = load_run(checkpoint) if (checkpoint / "results").exists() else {}
    if set(setup.tasks) <= set(stored):
        return {task: stored[task] for task in setup.tasks}
    model = FGCLIPModel.from_pretrained(checkpoint, attn_implementation="eager")
    results = evaluate_model(model, FGCLIPProcessor.from_pretrained(checkpoint), setup.tasks, precision="bfloat16")
    for task, result in results.items():
        save_result(result, checkpoint / "results", task)
    return results


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


def write_ablation(output: Path, scores: Scores, about: str) -> list[Path]:
    """Write ablation.md and ablation.html: our table, and table 6 of the paper below it."""
    paper = Table(
        [
            "method",
            *[
                f"{task} {column}"
                for task, tables in PAPER.items()
                for t in tables
                if t.number == 6
                for column in t.columns
            ],
        ],
        [],
    )
    table6 = [table for tables in PAPER.values() for table in tables if table.number == 6]
    for method in table6[0].rows:
        paper.rows.append(
            [method[0], *[f"{value:.1f}" for table in table6 for value in table.rows[method] if value is not None]]
        )
    pairs: list[list[Cell | str]] = [[name, value] for name, value in environment().items()]
    document = Document(
        "Ablation of the losses",
        about,
        [
            Section("Unseen data", [ablation_table(scores)]),
            Section("Table 6 of the paper (ViT-B/16, 12 M images)", [paper]),
            Section("Environment", [Table(["what", "value"], pairs, left=2)]),
        ],
    )
    write_text(output / "ablation.md", to_markdown(document))
    write_text(output / "ablation.html", to_html(document))
    return [output / "ablation.md", output / "ablation.html"]


def run(setup: Setup, seeds: Sequence[int], about: str) -> Scores:
    """All seeds, after `begin`; the table is written anew after each, so that a long run can be watched."""
    scores: Scores = {}
    for number, seed in enumerate(seeds):
        for variant, by_task in run_seed(setup, seed).items():
            for task, result in by_task.items():
                scores.setdefault(variant, {}).setdefault(task, []).append(result)
        done = ", ".join(map(str, seeds[: number + 1]))
        for path in write_ablation(setup.output, scores, f"{about}; seeds so far: {done}"):
            print(f"wrote {path}")
    return scores


def setup_from(arguments: argparse.Namespace) -> Setup:
    """Paths and tasks.

    Raises:
        ValueError: only one of the two data folders, a folder that is not there, or fewer than one step.
    """
    for name in ("stage1_steps", "stage2_steps"):
        steps = getattr(arguments, name)
        if steps is not None and steps < 1:
            raise ValueError(f"--{name} must be at least 1; got {steps}. Leave it out for the recipe's.")
    repeated = sorted({seed for seed in arguments.seeds if arguments.seeds.count(seed) > 1})
    if repeated:
        raise ValueError(f"--seeds must differ; got {', '.join(map(str, repeated))} more than once.")
    if (arguments.train_data is None) != (arguments.test_data is None):
        raise ValueError("--train_data and --test_data go together; without both the sample is generated.")
    if arguments.train_data is None:
        sample = arguments.output / "sample"
        test: dict[str, Any] = {"data": sample, "root": "test"}
        tasks: dict[str, Mapping[str, Any]] = {
            "retrieval": {**test, "limit": 200},
            "boxes": {"data": sample},
            "phrases": {**test, "limit": 150},
            "fgovd": {"data": sample},
        }
        train_data, recipe = sample / "train", "tiny"
    else:
        for folder in (arguments.train_data, arguments.test_data):
            if not (folder / "jsonfiles").is_dir():
                raise ValueError(f"{folder} has no jsonfiles/; it must be a folder in FineHARD's layout.")
        tasks = {
            name: {"data": arguments.test_data} for name in ("retrieval", "phrases", "phrase_in_image", "negatives")
        }
        train_data, recipe = arguments.train_data, "flickr8k"
    return Setup(
        arguments.output,
        train_data,
        arguments.test_data,
        arguments.images if arguments.train_data is None else None,
        tasks,
        arguments.model_recipe or RECIPES / f"{recipe}_model.yaml",
        {
            Stage1Arguments: arguments.stage1_recipe or RECIPES / f"{recipe}_stage1.yaml",
            Stage2Arguments: arguments.stage2_recipe or RECIPES / f"{recipe}_stage2.yaml",
        },
        {Stage1Arguments: arguments.stage1_steps, Stage2Arguments: arguments.stage2_steps},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints, results and the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument(
        "--train_data", type=Path, help="folder in FineHARD's layout to train on; default: the generated sample"
    )
    parser.add_argument("--test_data", type=Path, help="folder in FineHARD's layout to evaluate on")
    parser.add_argument("--images", type=int, default=8000, help="generated scenes to train on (default: 8000)")
    parser.add_argument(
        "--model_recipe", type=Path, help="YAML of the model; default: tiny, or the small one for photographs"
    )
    parser.add_argument("--stage1_recipe", type=Path, help="YAML of stage 1")
    parser.add_argument("--stage2_recipe", type=Path, help="YAML of stage 2; the loss weights are set by each variant")
    parser.add_argument("--stage1_steps", type=int, help="instead of the recipe's")
    parser.add_argument("--stage2_steps", type=int, help="instead of the recipe's")
    parser.add_argument("--dry_run", action="store_true", help="show what would be trained, and stop")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    transformers_logging.set_verbosity_error()
    try:
        setup = setup_from(parsed)
        begin(setup, parsed.dry_run)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if parsed.dry_run:
        for seed in parsed.seeds:
            for variant in VARIANTS:
                print(
                    f"seed {seed}: {variant.name} from {variant.start}, alpha {variant.regional}, beta {variant.hard}, on {setup.train_data}"
                )
        return
    try:
        run(setup, parsed.seeds, f"Trained on {name_of(setup.train_data)}, from random weights")
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
