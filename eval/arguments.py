"""Command line of `python -m eval`, as a dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

PRECISIONS = ("float32", "bfloat16")


@dataclass
class EvalArguments:
    """Options of `python -m eval`. Field names are the flags."""

    model: str = field(
        default="",
        metadata={
            "help": "Hub id or folder of a checkpoint (FG-CLIP, CLIP, SigLIP, SigLIP 2, Long-CLIP; open_clip models as open_clip:NAME[:PRETRAINED])."
        },
    )
    tasks: list[str] = field(
        default_factory=list, metadata={"help": "Tasks, separated by commas or spaces; --list_tasks shows them."}
    )
    data: str = field(default=".", metadata={"help": "Folder below which the tasks look for their files."})
    output: str = field(
        default="", metadata={"help": "Folder for results and report; finished tasks found there are not run again."}
    )
    task_options: list[str] = field(
        default_factory=list,
        metadata={"help": "Options of single tasks as TASK.OPTION=VALUE, e.g. fgovd.images=/data/coco."},
    )
    list_tasks: bool = field(
        default=False, metadata={"help": "Show every task with the files it wants and its options, and stop."}
    )
    dry_run: bool = field(
        default=False, metadata={"help": "Check model, options and files, print the settings, compute nothing."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Run tasks again that are already in --output."})
    compare: str = field(
        default="", metadata={"help": "Folder of an earlier run to compare with (significance of every difference)."}
    )
    name: str = field(default="", metadata={"help": "What the report calls the model; the default is --model."})
    revision: str = field(default="", metadata={"help": "Branch, tag or commit of a Hub checkpoint."})
    adapter: str = field(
        default="",
        metadata={"help": "Adapter class as package.module:Class, for a model of your own; called with --model."},
    )
    batch_size: int | None = field(
        default=None, metadata={"help": "Images a batch. Default: 64 on an accelerator, 8 on a CPU."}
    )
    num_workers: int | None = field(
        default=None,
        metadata={
            "help": "Processes that open and resize images. Default: beside an accelerator as many as the cores allow; none on a CPU, whose cores the model needs."
        },
    )
    precision: str = field(
        default="float32",
        metadata={"help": "Arithmetic of the model; scores are float32 always.", "choices": list(PRECISIONS)},
    )
    region_features: str = field(
        default="dense",
        metadata={
            "help": "Region features by RoIAlign over dense features, or each box as an image of its own.",
            "choices": ["dense", "crop"],
        },
    )
    allow_missing: bool = field(
        default=False,
        metadata={"help": "Leave out images that are missing or broken; the number is stored and shown."},
    )
    cache: str = field(
        default="",
        metadata={
            "help": "Folder for embeddings: a run that was killed goes on where it stopped. Default: OUTPUT/cache."
        },
    )
    no_cache: bool = field(default=False, metadata={"help": "Keep no embeddings."})

    def __post_init__(self) -> None:
        self.tasks = [name for part in self.tasks for name in part.split(",") if name]

    def options_of(self, task: str) -> dict[str, Any]:
        """The options given for one task.

        Raises:
            ValueError: an option that is not TASK.OPTION=VALUE, or for a task that is not run.
        """
        return parse_options(self.task_options, self.tasks).get(task, {})


def parse_options(options: Sequence[str], tasks: Sequence[str]) -> dict[str, dict[str, str]]:
    """TASK.OPTION=VALUE → task → option → value.

    Raises:
        ValueError: another form, or a task that is not run.
    """
    parsed: dict[str, dict[str, str]] = {}
    for option in options:
        where, equals, value = option.partition("=")
        task, dot, name = where.partition(".")
        if not (equals and dot and name):
            raise ValueError(f"task options look like TASK.OPTION=VALUE; got {option!r}.")
        if task not in tasks:
            raise ValueError(
                f"{option!r} is for task {task!r}, which is not run; --tasks has {', '.join(tasks) or 'none'}."
            )
        parsed.setdefault(task, {})[name] = value
    return parsed
