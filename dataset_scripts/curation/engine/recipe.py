"""A recipe: which steps run, with which settings and resources. YAML in, checked dataclasses out."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dataset_scripts.formats.files import read_yaml
from dataset_scripts.schema import FEATURES
from fgclip.fields import build

from ..steps import STEPS, step_class
from .input import InputSettings
from .shards import ANNOTATIONS

_MADE = set(ANNOTATIONS) - set(FEATURES)  # columns that no input has: only a step can write them


@dataclass
class Resources:
    """What a step runs on. `workers` None: every core without a GPU, one process with a GPU or an endpoint.

    `gpus` is how many each worker has to itself; with Ray such steps are actors. `batch_size` records go through the
    step at a time; None is the whole shard.
    """

    workers: int | None = None
    gpus: float = 0
    cpus: float = 1
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"resources.*.{name} is {getattr(self, name)}; it must be 1 or more, or left out.")
        if self.gpus < 0 or self.cpus < 0:
            raise ValueError(f"resources.*.gpus and cpus are {self.gpus} and {self.cpus}; they must not be negative.")


@dataclass
class Recipe:
    """Everything a run depends on besides its input folder."""

    steps: dict[str, Any] = field(default_factory=dict)
    input: InputSettings = field(default_factory=InputSettings)
    resources: dict[str, Resources] = field(default_factory=dict)
    seed: int = 0
    shard_size: int = 1000

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError(f"The recipe has no steps; it needs at least one of {', '.join(STEPS)}.")
        if self.shard_size < 1:
            raise ValueError(f"shard_size is {self.shard_size}; it must be 1 or more records.")
        for name, column in missing_columns(self.steps, given=lambda column: column not in _MADE):
            writers = [step for step in STEPS if column in step_class(step).writes]
            raise ValueError(
                f"The recipe has {name}, which reads {column}, without a step before it that writes them; "
                f"add {' or '.join(f'`{writer}:`' for writer in writers)}."
            )
        unknown = set(self.resources) - set(STEPS)
        if unknown:
            raise ValueError(f"resources names {sorted(unknown)}; steps are {', '.join(STEPS)}.")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def load_recipe(path: str | Path, changes: list[str] | None = None) -> Recipe:
    """Read a recipe file; `changes` such as ``negatives.count=5`` or ``shard_size=100`` go over it.

    Raises:
        ValueError: an unknown key, a value of the wrong type or out of range, no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no recipe {path}. Examples are in {Path(__file__).parents[1] / 'recipes'}.")
    raw = read_yaml(path)
    for change in changes or []:
        _apply(raw, change)
    try:
        return make_recipe(raw, str(path))
    except Exception as error:  # nobody knows what is in a file of somebody else
        said = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise ValueError(said if str(path) in said else f"{path}: {said}") from error


def make_recipe(raw: dict[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from plain values."""
    raw = dict(raw)
    steps = raw.pop("steps", None)
    steps = {} if steps is None else steps
    if isinstance(steps, list):
        steps = dict.fromkeys(steps)
    if not isinstance(steps, dict) or set(steps) - set(STEPS):
        raise ValueError(f"{where}: steps is {steps!r}; it must map some of {', '.join(STEPS)} to their settings.")
    seed = raw.get("seed", 0)
    built = {}
    for name in STEPS:  # in running order, whatever the file's
        if name in steps:
            values = dict(steps[name] or {})
            settings = step_class(name).Settings
            if "seed" in {f.name for f in dataclasses.fields(settings)}:
                values.setdefault("seed", seed)
            built[name] = build(settings, values, f"{where}: steps.{name}")
    resources = raw.pop("resources", None) or {}
    built_resources = {n: build(Resources, v or {}, f"{where}: resources.{n}") for n, v in resources.items()}
    unknown = set(raw) - {"input", "seed", "shard_size"}
    if unknown:
        raise ValueError(
            f"{where}: unknown keys {sorted(unknown)}; known are steps, input, resources, seed, shard_size."
        )
    source = build(InputSettings, raw.pop("input", None) or {}, f"{where}: input")
    return Recipe(steps=built, input=source, resources=built_resources, **raw)


def missing_columns(
    steps: typing.Iterable[str], given: typing.Callable[[str], bool]
) -> typing.Iterator[tuple[str, str]]:
    """Step and column where a step reads what is neither `given` nor written by a step before it."""
    written: set[str] = set()
    for name in steps:
        for reads in step_class(name).reads:
            choices = (reads,) if isinstance(reads, str) else reads
            if not any(
                column in written or column.partition(".")[0] in written or given(column) for column in choices
            ):
                yield name, " or ".join(choices)
        written.update(step_class(name).writes)


def _apply(raw: dict[str, Any], change: str) -> None:
    """One ``a.b=value``; a first part that is a step stands for ``steps.STEP``."""
    name, separator, text = change.partition("=")
    if not separator:
        raise ValueError(f"--set {change!r} must have the form name=value, such as negatives.count=5.")
    parts = name.split(".")
    if parts[0] in STEPS:
        parts.insert(0, "steps")
    target = raw
    for part in parts[:-1]:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ValueError(f"--set {change!r}: {part} is no section of the recipe.")
    target[parts[-1]] = yaml.safe_load(text)
