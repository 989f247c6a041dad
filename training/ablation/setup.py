"""What is trained on what, and how it is measured; a folder holds the runs of one setup."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_scripts.atomic import write_text
from dataset_scripts.fingerprint import fingerprint
from dataset_scripts.formats.files import named_file, read_yaml
from dataset_scripts.sample import generate_sample
from eval.names import name_of
from training import RECIPES
from training.arguments import FGCLIPTrainingArguments, Stage1Arguments, Stage2Arguments

from .variants import TABLES, Variant

SETUP_FILE = "setup.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """What is trained on what, and how it is measured.

    Attributes:
        table: of the paper, which says what is compared.
        test_data: None for the generated sample, which holds its own.
        images: scenes to generate for training; None with data of one's own.
        steps: of each stage, instead of its recipe's; None for the recipe's.
        start: a checkpoint that all stage-2 rows start from, a folder or a Hub id; None to train stage 1 for each seed.
    """

    table: int
    output: Path
    train_data: Path
    test_data: Path | None
    images: int | None
    tasks: Mapping[str, Mapping[str, Any]]
    model_recipe: Path
    stage_recipes: Mapping[type[FGCLIPTrainingArguments], Path]
    steps: Mapping[type[FGCLIPTrainingArguments], int | None]
    start: str | None = None

    @property
    def variants(self) -> tuple[Variant, ...]:
        stage_1, *others = TABLES[self.table]
        return tuple(others) if self.start else (stage_1, *others)


def described(setup: Setup) -> dict[str, Any]:
    """All that a number of the table depends on beside the seed, as JSON types; no path, so that folders may move.

    Raises:
        ValueError: a recipe that is not there or holds no settings.
    """
    stages = {}
    for number, stage in enumerate((Stage1Arguments, Stage2Arguments), 1):
        steps = setup.steps[stage]
        stages[f"stage{number}"] = read_recipe(setup.stage_recipes[stage]) | ({"max_steps": steps} if steps else {})
    if setup.test_data is None:
        data: dict[str, Any] = {"images": setup.images}
    else:
        data = {"train_data": _data_identity(setup.train_data), "test_data": _data_identity(setup.test_data)}
    tasks = {
        name: {option: value for option, value in options.items() if not isinstance(value, Path)}
        for name, options in setup.tasks.items()
    }
    variants = {variant.name: {"start": variant.start, "losses": variant.losses} for variant in setup.variants}
    if setup.start:
        model: Any = name_of(setup.start)
        del stages["stage1"]
    else:
        model = read_recipe(setup.model_recipe)
    whole = {**data, "model": model, **stages, "tasks": tasks, "variants": variants}
    return json.loads(json.dumps(whole, default=str))


def read_recipe(path: Path) -> dict[str, Any]:
    """A YAML file's settings."""
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


def setup_from(arguments: argparse.Namespace) -> Setup:
    """Paths and tasks.

    Raises:
        ValueError: only one of the two data folders, a folder that is not there, or fewer than one step.
    """
    for name in ("stage1_steps", "stage2_steps"):
        steps = getattr(arguments, name)
        if steps is not None and steps < 1:
            raise ValueError(f"--{name} must be at least 1; got {steps}. Leave it out for the recipe's.")
    if arguments.test_limit and arguments.test_data is None:
        raise ValueError("--test_limit goes with --test_data; the sample is small already.")
    for name in ("model_recipe", "stage1_recipe", "stage1_steps"):
        if arguments.start and getattr(arguments, name) is not None:
            raise ValueError(f"--{name} is for a stage 1 that is trained here; --start names a finished one.")
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
    if arguments.test_limit:
        tasks = {name: {**options, "limit": arguments.test_limit} for name, options in tasks.items()}
    return Setup(
        arguments.table,
        arguments.output,
        train_data,
        arguments.test_data,
        arguments.images if arguments.train_data is None else None,
        tasks,
        named_file(arguments.model_recipe or f"{recipe}_model", RECIPES, "--model_recipe"),
        {
            Stage1Arguments: named_file(arguments.stage1_recipe or f"{recipe}_stage1", RECIPES, "--stage1_recipe"),
            Stage2Arguments: named_file(arguments.stage2_recipe or f"{recipe}_stage2", RECIPES, "--stage2_recipe"),
        },
        {Stage1Arguments: arguments.stage1_steps, Stage2Arguments: arguments.stage2_steps},
        arguments.start,
    )
