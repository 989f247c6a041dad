"""Command line of `python -m eval.llava`, as a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class LlavaEvalArguments:
    """Options of `python -m eval.llava`. Field names are the flags."""

    model: str = field(
        default="", metadata={"help": "Folder or Hub id of a LLaVA with its processor; not needed with --answers."}
    )
    tasks: list[str] = field(
        default_factory=list, metadata={"help": "gqa, pope, refcoco, mmbench; separated by commas or spaces."}
    )
    data: str = field(default=".", metadata={"help": "Folder below which the tasks look for their files."})
    output: str = field(
        default="", metadata={"help": "Folder for answers, results and report; a run that was killed goes on there."}
    )
    answers: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Score these files of answers alone, one a task in the order of --tasks: JSON lines with question_id and text."
        },
    )
    task_options: list[str] = field(
        default_factory=list,
        metadata={"help": "Options of single tasks as TASK.OPTION=VALUE, e.g. refcoco.subsets=val,plus_val."},
    )
    list_tasks: bool = field(
        default=False, metadata={"help": "Show every task with the files it wants and its options, and stop."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Check model, options and files, and stop."})
    limit: int | None = field(
        default=None, metadata={"help": "Ask about the first images alone, until there are so many questions a task."}
    )
    control_questions: int = field(
        default=1000,
        metadata={"help": "Questions a task that are asked again about other images, for the blind control; 0: none."},
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace what --output holds of another run."})
    compare: str = field(
        default="", metadata={"help": "Folder of an earlier run to compare with (significance of every difference)."}
    )
    name: str = field(default="", metadata={"help": "What the report calls the model; the default is --model."})
    revision: str = field(default="", metadata={"help": "Branch, tag or commit of a Hub model."})
    batch_size: int | None = field(
        default=None, metadata={"help": "Questions a batch. Default: 16 on an accelerator, 4 on a CPU."}
    )
    num_workers: int | None = field(
        default=None,
        metadata={
            "help": "Processes that open images. Default: beside an accelerator as many as the cores allow, none on a CPU."
        },
    )
    precision: str = field(
        default="auto",
        metadata={
            "help": "Arithmetic of the model; auto is bfloat16 on an accelerator and float32 on a CPU.",
            "choices": ["auto", "float32", "bfloat16"],
        },
    )

    def __post_init__(self) -> None:
        self.tasks = [name for part in self.tasks for name in part.split(",") if name]
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit must be at least 1; got {self.limit}.")
        if self.control_questions < 0:
            raise ValueError(f"--control_questions must not be negative; got {self.control_questions}.")
