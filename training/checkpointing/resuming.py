"""Exact resume: what Trainer leaves out of a checkpoint, atomic writing, and finding the checkpoint to go on from."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast
from torch import nn
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from training.arguments import FGCLIPTrainingArguments
from training.run_log import RunLog

from .folders import (
    UNFINISHED,
    checkpoint_folders,
    damage,
    move_into_place,
    newest_good_checkpoint,
    seal,
    set_aside,
    step_of,
)

logger = logging.getLogger(__name__)


def checkpoint_to_resume(args: FGCLIPTrainingArguments) -> str | None:
    """Where a run goes on, the same on all ranks: `resume_from_checkpoint`, else the newest good one of `output_dir`.

    `overwrite_output_dir` deletes the checkpoints there and starts anew.

    Raises:
        ValueError: the checkpoint that was asked for is not there or is damaged.
    """
    output = Path(args.output_dir)
    step = torch.tensor([-1], device=args.device)
    chosen = Path(args.resume_from_checkpoint) if args.resume_from_checkpoint else None
    if args.should_save:
        if chosen is not None:
            problem = damage(chosen) if chosen.is_dir() else "there is no such folder"
            if problem:
                raise ValueError(
                    f"Received resume_from_checkpoint={chosen}: {problem}. Leave the option out to go on from the newest "
                    f"good checkpoint of {output}."
                )
            _leave_later_ones(chosen, output)
        elif args.overwrite_output_dir:
            for folder in checkpoint_folders(output):
                logger.warning("Deleting %s (overwrite_output_dir).", folder)
                shutil.rmtree(folder)
        else:
            newest = newest_good_checkpoint(output)
            step.fill_(-1 if newest is None else step_of(newest))
        shutil.rmtree(output / UNFINISHED, ignore_errors=True)
    if args.world_size > 1:
        step = broadcast(step)
    if chosen is None and step.item() >= 0:
        chosen = output / f"checkpoint-{step.item()}"
        if not chosen.is_dir():
            raise ValueError(
                f"{chosen} is not there on process {args.process_index}; on several machines output_dir must lie on a file "
                "system that all of them share."
            )
        logger.info("Resuming from %s. Pass --overwrite_output_dir to start anew.", chosen)
    return None if chosen is None else str(chosen)


def _leave_later_ones(chosen: Path, output: Path) -> None:
    """Going back to an earlier checkpoint leaves the later ones of that run behind."""
    if chosen.resolve().parent != output.resolve():
        return
    for folder in checkpoint_folders(output):
        if step_of(folder) > step_of(chosen):
            aside = set_aside(folder, "superseded")
            logger.warning("Resuming from %s, before %s, which is kept as %s.", chosen.name, folder.name, aside.name)


class ResumableTrainer(Trainer):
    """Trainer whose checkpoints are written atomically and hold all that a bit-equal continuation needs."""

    run_log: RunLog
    _writing = False
    _checkpoint: str | None = None

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, UNFINISHED) if self._writing else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        run = Path(self._get_output_dir(trial))
        target = run / f"checkpoint-{self.state.global_step}"
        unfinished = run / UNFINISHED / target.name
        if self.args.should_save:
            shutil.rmtree(unfinished.parent, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._writing = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._writing = False
        self._save_extras(unfinished)
        if self.state.best_model_checkpoint == str(unfinished):
            self.state.best_model_checkpoint = str(target)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(unfinished / "trainer_state.json"))
            seal(unfinished)
            move_into_place(unfinished, target)
            unfinished.parent.rmdir()
            rotate_checkpoints(str(run), self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=False)
        self.accelerator.wait_for_everyone()

    def _save_extras(self, folder: Path) -> None:
        """What this rank needs beside Trainer's own files: its place in the data and what is not logged yet."""
        loader = self.callback_handler.train_dataloader
        progress = {
            "loss": self._tr_loss.cpu(),
            "last_logged": self._globalstep_last_logged,
            "run_log": self.run_log.state_dict(),
            "data": loader.state_dict() if hasattr(loader, "state_dict") else None,
        }
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(progress, folder / _progress_file(self.args.process_index))

    def _load_extras(self, folder: Path) -> None:
        file = folder / _progress_file(self.args.process_index)
        loader = self.callback_handler.train_dataloader
        if not file.is_file():
            if hasattr(loader, "load_state_dict"):
                raise ValueError(
                    f"{folder} has no place in the data for process {self.args.process_index} of {self.args.world_size}; "
                    "resume a stream with as many processes as it was saved with."
                )
            logger.warning("%s has no %s: the first log line after resuming covers fewer steps.", folder, file.name)
            return
        progress = torch.load(file, weights_only=True)
        self._tr_loss += progress["loss"].to(self._tr_loss)
        # The mean over this call's steps, which Trainer reports at the end, does not count the earlier ones.
        self._total_loss_scalar = -self.accelerator.reduce(self._tr_loss, "mean").item()
        self._globalstep_last_logged = progress["last_logged"]
        self.run_log.load_state_dict(progress["run_log"])
        if hasattr(loader, "load_state_dict"):
            if progress["data"] is None:
                raise ValueError(f"{folder} is of a run without streaming; resume it without --streaming.")
            loader.load_state_dict(progress["data"])

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ):
        self._checkpoint = resume_from_checkpoint
        return super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )

    def _run_epoch(self, *arguments: Any, **settings: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            logger.info("The run is finished: step %d of %d.", self.state.global_step, self.state.max_steps)
            self.control.should_training_stop = True
            return
        super()._run_epoch(*arguments, **settings)


class LoadExtras(TrainerCallback):
    """Puts a resumed run where it was, after Trainer has set its counters and before it reads data."""

    def __init__(self, trainer: ResumableTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if self.trainer._checkpoint is not None:
            self.trainer._load_extras(Path(self.trainer._checkpoint))


def _progress_file(process_index: int) -> str:
    return f"progress_{process_index}.pt"
