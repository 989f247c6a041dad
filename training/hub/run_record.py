"""What a run was: written beside the weights as `training_run.json`, from which the model card is rendered.

Holds names, never paths of the machine, and nothing that looks like a secret.
"""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainingArguments

from eval.names import name_of

if TYPE_CHECKING:
    from training.trainer import FGCLIPTrainer

FILE = "training_run.json"
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "safetensors")

# Where things lie, who may write there and how it is shown: of no use to a reader of the card.
_NOT_RECORDED = (
    "dir",
    "token",
    "hub",
    "report_to",
    "run_name",
    "logging",
    "push",
    "resume",
    "disable_tqdm",
    "project",
)


@dataclass(frozen=True)
class Provenance:
    """Where a run's model and data come from: folders or Hub ids.

    Args:
        train_data: as on the command line.
        base_model: by default where the model was loaded from.
    """

    train_data: Sequence[str | Path] = ()
    base_model: str | Path | None = None


def run_record(trainer: "FGCLIPTrainer") -> dict[str, Any]:
    """The record of a run as plain JSON, during or after training."""
    state, arguments, collator = trainer.state, trainer.args, trainer.data_collator
    losses = [entry for entry in state.log_history if "loss" in entry]
    base_model = trainer.provenance.base_model or trainer.model.name_or_path or None
    previous = _previous(base_model)
    return {
        "stage": type(arguments).__name__.removesuffix("Arguments"),
        "base_model": name_of(base_model),
        "train_data": [name_of(path) for path in trainer.provenance.train_data],
        "data_settings": collator.settings,
        "records": _length(trainer.train_dataset),
        "steps": state.global_step,
        "epochs": round(state.epoch, 3) if state.epoch is not None else None,
        "global_batch_size": arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps,
        "processes": arguments.world_size,
        "device": torch.cuda.get_device_name() if arguments.device.type == "cuda" else arguments.device.type,
        "settings": {"losses": " ".join(f"{term.name}={term.weight:g}" for term in trainer.objective.terms)}
        | _changed(arguments),
        "losses": {name: value for name, value in (losses[-1] if losses else {}).items() if name.startswith("loss")},
        "versions": {"python": platform.python_version(), **_versions()},
        **({"previous": previous} if previous else {}),
    }


def read_run_record(folder: str | Path) -> dict[str, Any] | None:
    """The record in a checkpoint folder, or None where it was not trained here."""
    path = Path(folder) / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_run_record(folder: str | Path, record: dict[str, Any]) -> None:
    (Path(folder) / FILE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _previous(base_model: Any) -> dict[str, Any] | None:
    return read_run_record(base_model) if base_model is not None and Path(str(base_model)).is_dir() else None


def _changed(arguments: TrainingArguments) -> dict[str, Any]:
    """Settings that differ from TrainingArguments' own defaults; learning rate and decay always."""
    always = ("learning_rate", "weight_decay", "seed", "bf16", "per_device_train_batch_size")
    defaults = {
        field.name: field.default for field in dataclasses.fields(TrainingArguments) if field.init is not False
    }
    changed = {}
    for field in dataclasses.fields(arguments):
        name, value = field.name, getattr(arguments, field.name)
        if any(part in name for part in _NOT_RECORDED) or not isinstance(value, (bool, int, float, str)):
            continue
        default = defaults.get(name)
        unset = value == default or (value is False and default is None)  # some are None until they are resolved
        if name in always or name not in defaults or not unset:
            changed[name] = value
    compiled = getattr(arguments, "compile_settings", None) or {}
    return changed | {f"torch_compile_{name}": value for name, value in compiled.items() if value is not None}


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except TypeError:
        return None


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}
