"""Saving: what a model's folder holds, and a checkpoint from its first byte to its final name.

`resuming.py` reads it back.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import TrainerState
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import rotate_checkpoints

from eval.together import failing_together
from training.efficiency.lora import has_lora, merged_state, save_adapters
from training.hub.run_record import run_record, write_run_record
from training.temperatures import checkpoint_state

from .folders import UNFINISHED, checkpoint_folders, move_into_place, progress_file, seal

if TYPE_CHECKING:
    from training.trainer import FGCLIPTrainer


def save_model(trainer: "FGCLIPTrainer", folder: Path, state_dict: dict[str, torch.Tensor] | None = None) -> None:
    """Writes what `from_pretrained` and the model card need: weights, processor, average, record of the run.

    Args:
        state_dict: whole weights, where they had to be gathered from shards.
    """
    if has_lora(trainer.model):
        state_dict = merged_state(trainer.model)
    elif state_dict is None:
        state_dict = trainer.model.state_dict()
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(folder, state_dict=checkpoint_state(state_dict, model))
    trainer.processing_class.save_pretrained(folder)
    if trainer.average is not None:
        trainer.average.save(folder)
    write_run_record(folder, run_record(trainer))


class NotSaved(OSError):
    """A checkpoint or a model could not be written; those written before are whole."""


def save_checkpoint(trainer: "FGCLIPTrainer") -> None:
    """Writes the checkpoint of this step, which is there whole or not at all. On all processes.

    Raises:
        NotSaved: on all processes; the disk is full or cannot be written, or `output_dir` is not there any more.
    """
    args, state = trainer.args, trainer.state
    output = Path(args.output_dir)
    target = output / f"checkpoint-{state.global_step}"
    folder = output / UNFINISHED / target.name
    try:
        with failing_together():
            _require_there(output)
            if args.should_save:
                shutil.rmtree(folder.parent, ignore_errors=True)
                folder.mkdir(parents=True)
        _write_parts(trainer, folder, target)
    except Exception as error:
        if args.should_save:
            shutil.rmtree(folder.parent, ignore_errors=True)  # so that a full disk has room for what is left
        raise _not_saved(target, output, error) from error
    if args.push_to_hub and args.hub_strategy != "end":
        trainer.publish(target, f"Training in progress, step {state.global_step}")


def save_finished(trainer: "FGCLIPTrainer") -> None:
    """The model and the run's state in `output_dir`, and on the Hub if the arguments say so. On all processes.

    Raises:
        NotSaved: see [`save_checkpoint`].
    """
    output = Path(trainer.args.output_dir)
    try:
        with failing_together():
            _require_there(output)
            trainer.save_model(_internal_call=True)
            trainer.save_state()
    except Exception as error:
        raise _not_saved(output, output, error) from error
    if trainer.args.push_to_hub:
        trainer.publish(output, "End of training")


def _require_there(output: Path) -> None:
    """Made anew it would hide that a disk is gone, or that somebody deleted the run."""
    if not output.is_dir():
        raise FileNotFoundError(f"{output} is not there any more")


def _not_saved(target: Path, output: Path, error: Exception) -> NotSaved:
    """In one line: what could not be written, why, and what is left."""
    earlier = [path.name for path in checkpoint_folders(output)]
    reason = " ".join(str(error).split()) or type(error).__name__
    left = f"Whole are: {', '.join(earlier)}." if earlier else "There is no earlier checkpoint."
    return NotSaved(
        f"{target} could not be written: {reason}. {left} Once {output} can be written, the same command goes on."
    )


def _write_parts(trainer: "FGCLIPTrainer", folder: Path, target: Path) -> None:
    """In parts that each fail on all processes together, since engines gather weights between the processes."""
    args, state = trainer.args, trainer.state
    trainer.store_flos()
    with failing_together():
        trainer.save_model(str(folder), _internal_call=True)
        folder.mkdir(parents=True, exist_ok=True)
    if not args.save_only_model:
        with failing_together():
            trainer._save_optimizer_and_scheduler(str(folder))
        with failing_together():
            trainer._save_rng_state(str(folder))
            _save_progress(trainer, folder)
            if (
                has_lora(trainer.model) and args.should_save and not trainer.is_deepspeed_enabled
            ):  # which keeps them itself
                save_adapters(trainer.model, folder)
    best = target.with_name(f"checkpoint-{state.best_global_step}")
    if best == target or best.is_dir():
        state.best_model_checkpoint = str(best)
    trainer.accelerator.wait_for_everyone()
    with failing_together():
        if args.should_save:
            callbacks = [*trainer.callback_handler.callbacks, trainer.control]
            stateful = [callback for callback in callbacks if isinstance(callback, ExportableState)]
            state.stateful_callbacks = TrainerState(stateful_callbacks=stateful).stateful_callbacks
            state.save_to_json(str(folder / "trainer_state.json"))
            seal(folder)
            move_into_place(folder, target)
            folder.parent.rmdir()
            rotate_checkpoints(str(target.parent), args.save_total_limit, state.best_model_checkpoint, use_mtime=False)


def _save_progress(trainer: "FGCLIPTrainer", folder: Path) -> None:
    """What this process needs beside Trainer's own files: its place in the data and what is not logged yet."""
    loader = trainer.callback_handler.train_dataloader
    progress = {
        "run_log": trainer.run_log.state_dict(),
        "objective": trainer.objective.state_dict(),
        "data": loader.state_dict() if hasattr(loader, "state_dict") else None,
    }
    torch.save(progress, folder / progress_file(trainer.args.process_index))
