"""What a run was: written beside the weights as `training_run.json`, from which the model card is rendered.

Holds names, never paths of the machine, and nothing that looks like a secret.
"""

import dataclasses
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from eval.names import name_of

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


def run_record(trainer: Trainer, sources: dict[str, Any]) -> dict[str, Any]:
    """The record of a run as plain JSON.

    Args:
        trainer: during or after training.
        sources: `base_model` and `train_data` as they were given on the command line, and the data arguments.
    """
    state, arguments = trainer.state, trainer.args
    losses = [entry for entry in state.log_history if "loss" in entry]
    previous = _previous(sources.get("base_model"))
    return {
        "stage": type(arguments).__name__.removesuffix("Arguments"),
        "base_model": name_of(sources.get("base_model")),
        "train_data": [name_of(path) for path in sources.get("train_data", [])],
        "data_settings": sources.get("data_settings", {}),
        "records": _length(trainer.train_dataset),
        "steps": state.global_step,
        "epochs": round(state.epoch, 3) if state.epoch is not None else None,
        "global_batch_size": arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps,
        "processes": arguments.world_size,
        "device": torch.cuda.get_device_name() if arguments.device.type == "cuda" else arguments.device.type,
        "settings": _changed(arguments),
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
        if name in always or name not in defaults or value != defaults[name]:
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
