"""What an evaluation returns: scores with their chance level, control, interval and ties, and how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from dataset_scripts.atomic import replacing, write_text


@dataclass
class Score:
    """One number and what it has to be read against. Values are fractions in [0, 1]; tables print them × 100.

    Attributes:
        value: the score itself; a tie with the right answer counts as wrong.
        count: how many decisions it averages over.
        chance: what a model that guesses would reach, from the real number of candidates of every decision.
        control: the blind control: the same captions, each with the region (or whole) of another image, mean over
            seeded permutations; of a LLaVA the same questions about other images, once. What texts alone give away.
        control_std: standard deviation over the permutations; None where there was one.
        low, high: 95 % bootstrap interval, resampling images.
        ties: decisions in which the right answer shares the last counting place; `value + ties / count` is the score
            with ties counted as right, as the published FG-OVD script does.
    """

    value: float
    count: int
    chance: float | None = None
    control: float | None = None
    control_std: float | None = None
    low: float | None = None
    high: float | None = None
    ties: int = 0


@dataclass
class Result:
    """The outcome of one task.

    Attributes:
        task: name in the registry.
        scores: score name → `Score`, in the order in which they are shown.
        breakdown: group (an attribute, a box size…) → score name → `Score`.
        settings: model, resolution, text length, feature kind, templates, precision… everything that moves the number.
        data: counts: images, rows, missing, clipped boxes…
        data_digests: subset (or "" where the task has none) → digest, equal for two results exactly if they decide on the same
            images, boxes and texts.
        environment: versions, hardware, processes and time of day of the run.
        seconds: wall time of the task.
        outcomes: score name → (count,) uint8, right or wrong for every decision, in data order; for comparisons of two
            runs. Kept beside the JSON, in safetensors.
        groups: score name → (count,) int64, the image of every decision.
    """

    task: str
    scores: dict[str, Score]
    breakdown: dict[str, dict[str, Score]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, int] = field(default_factory=dict)
    data_digests: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict, compare=False)
    seconds: float = 0.0
    outcomes: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    groups: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def digest_for(self, score: str) -> str | None:
        """The digest of what a score decides on; None in results of an early version."""
        return self.data_digests.get(score, self.data_digests.get(""))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the outcomes of single decisions are left out."""
        kept = {k: v for k, v in self.__dict__.items() if k not in ("outcomes", "groups")}
        kept["scores"] = {k: asdict(v) for k, v in self.scores.items()}
        kept["breakdown"] = {g: {k: asdict(v) for k, v in s.items()} for g, s in self.breakdown.items()}
        return kept

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Result:
        """The inverse of `to_dict`."""
        data = dict(data)
        data["scores"] = {k: Score(**v) for k, v in data["scores"].items()}
        data["breakdown"] = {g: {k: Score(**v) for k, v in s.items()} for g, s in data.get("breakdown", {}).items()}
        return cls(**data)


def save_result(result: Result, folder: Path, label: str) -> None:
    """Write `folder/label.json` and the outcomes of single decisions to `folder/label.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"outcome::{k}": np.ascontiguousarray(v, dtype=np.uint8) for k, v in result.outcomes.items()}
    arrays |= {f"group::{k}": np.ascontiguousarray(v, dtype=np.int64) for k, v in result.groups.items()}
    if arrays:
        with replacing(folder / f"{label}.safetensors") as part:
            save_file(arrays, part)
    write_text(folder / f"{label}.json", json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")


def load_result(folder: Path, label: str) -> Result:
    """Read what `save_result` wrote.

    Raises:
        ValueError: the file is not a result.
    """
    path = folder / f"{label}.json"
    try:
        result = Result.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a result written by `python -m eval` ({error}); delete it and run again."
        ) from None
    arrays_path = folder / f"{label}.safetensors"
    if arrays_path.exists():
        for name, array in load_file(arrays_path).items():
            kind, _, score = name.partition("::")
            (result.outcomes if kind == "outcome" else result.groups)[score] = array
    return result


def write_results(results: Mapping[str, Result], path: Path | str) -> Path:
    """All results of one run as one JSON file: label → result."""
    path = Path(path)
    content = {label: result.to_dict() for label, result in results.items()}
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path
