"""Exact resume, in the order in which it happens.

The checkpoint is chosen; Trainer has `load_weights` read it, and reads optimizer, schedule, random state and its own
state; before the first batch `Restore` brings back what `saving.py` wrote beside those.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate.utils import broadcast
from transformers import TrainerCallback

from eval.together import failing_together
from training.arguments import FGCLIPTrainingArguments
from training.efficiency.lora import has_lora, load_adapters

from .folders import (
    UNFINISHED,
    checkpoint_folders,
    find_damage,
    newest_good_checkpoint,
    progress_file,
    set_aside,
    step_of,
)

if TYPE_CHECKING:
    from training.trainer import FGCLIPTrainer

logger = logging.getLogger(__name__)


def checkpoint_to_resume(args: FGCLIPTrainingArguments) -> str | None:
    """Where a run goes on, the same on all ranks: `resume_from_checkpoint`, else the newest good one of `output_dir`.

    `overwrite_output_dir` deletes the checkpoints there and starts anew.

    Raises:
        ValueError: the checkpoint that was asked for is not there or is damaged.
    """
    output = Path(args.output_dir)
    chosen = Path(args.resume_from_checkpoint) if args.resume_from_checkpoint else None
    step = torch.tensor([-1], device=args.device)
    with failing_together():
        if args.should_save:
            newest = _prepare(chosen, output, args.overwrite_output_dir)
            step.fill_(-1 if newest is None else step_of(newest))
    if args.world_size > 1:
        step = broadcast(step)
    with failing_together():
        if chosen is None and step.item() >= 0:
            chosen = output / f"checkpoint-{step.item()}"
        if chosen is not None and not chosen.is_dir():
            raise ValueError(
                f"{chosen} is not there on process {args.process_index}; on several machines output_dir must lie on a "
                "file system that all of them share."
            )
    if chosen is not None:
        logger.info("Resuming from %s. Pass --overwrite_output_dir to start anew.", chosen)
    return None if chosen is None else str(chosen)


def _prepare(chosen: Path | None, output: Path, overwrite: bool) -> Path | None:
    """On the first process: leaves in the folder what the run goes on from; the newest good one if none was chosen."""
    newest = None
    if chosen is not None:
        problem = find_damage(chosen) if chosen.is_dir() else "there is no such folder"
        if problem:
            raise ValueError(
                f"Received resume_from_checkpoint={chosen}: {problem}. Leave the option out to go on from the newest "
                f"good checkpoint of {output}."
            )
        _leave_later_ones(chosen, output)
    elif overwrite:
        for folder in checkpoint_folders(output):
            logger.warning("Deleting %s (overwrite_output_dir).", folder)
            shutil.rmtree(folder)
    else:
        newest = newest_good_checkpoint(output)
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)
    return newest


def _leave_later_ones(chosen: Path, output: Path) -> None:
    """Going back to an earlier checkpoint leaves the later ones of that run behind."""
    if chosen.resolve().parent != output.resolve():
        return
    for folder in checkpoint_folders(output):
        if step_of(folder) > step_of(chosen):
            aside = set_aside(folder, "superseded")
            logger.warning("Resuming from %s, before %s, which is kept as %s.", chosen.name, folder.name, aside.name)


def load_weights(trainer: "FGCLIPTrainer", folder: Path, load: Callable[[], None]) -> None:
    """Puts a checkpoint's weights into the model.

    Args:
        load: what Trainer would do.
    """
    if has_lora(trainer.model):
        # The saved weights are merged; the ones to adapt are those that training started from.
        load_adapters(trainer.model, folder)
    else:
        load()


class Restore(TrainerCallback):
    """Puts a resumed run where it was, after Trainer has set its counters and before it reads data."""

    def __init__(self, trainer: "FGCLIPTrainer"):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        folder = self.trainer.resumed_from
        if folder is None:
            return
        with failing_together():
            _load_progress(self.trainer, folder)
            if self.trainer.average is not None:
                self.trainer.average.load(folder)


def _load_progress(trainer: "FGCLIPTrainer", folder: Path) -> None:
    rank, world = trainer.args.process_index, trainer.args.world_size
    loader = trainer.callback_handler.train_dataloader
    saved_by = len(list(folder.glob(progress_file("*"))))
    if not saved_by:
        raise ValueError(
            f"{folder} holds a model and no state of its training (save_only_model). Start from it with "
            "--model_name_or_path, and --overwrite_output_dir or another output_dir."
        )
    is_stream, is_other = hasattr(loader, "load_state_dict"), saved_by != world
    if is_other and is_stream:
        raise ValueError(
            f"{folder} was saved by {saved_by} processes, each with its place in the data, and this run has {world}; "
            "resume a stream with as many processes as it was saved with."
        )
    # What the processes have in common is the same in each file.
    progress = torch.load(folder / progress_file(0 if is_other else rank), weights_only=True)
    trainer.objective.load_state_dict(progress["objective"])
    if is_other:
        # The sums since the last log line are each process's own.
        logger.warning(
            "%s was saved by %d processes, this run has %d: the first log line covers fewer steps.",
            *(folder, saved_by, world),
        )
        return
    trainer.run_log.load_state_dict(progress["run_log"])
    if is_stream:
        if progress["data"] is None:
            raise ValueError(f"{folder} is of a run without streaming; resume it without --streaming.")
        loader.load_state_dict(progress["data"])
