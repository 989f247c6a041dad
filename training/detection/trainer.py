"""Trainer of the detector: checkpoints, resume and logs are those of the other stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import Trainer

from eval.detection.checkpoint import WEIGHTS, save_detector
from eval.detection.detector import OpenVocabularyDetector
from training.checkpointing.resuming import Restore
from training.checkpointing.saving import save_checkpoint
from training.data.loading import epoch_loader
from training.efficiency.host_memory import FlatMemory
from training.run_log import RunLog
from training.stopping import StopOnSignal, stopping
from training.watching import watch_step

from .data import DetectionExamples


class _NoState:
    """The losses have no state of their own."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class DetectionTrainer(Trainer):
    """Trains a detector on boxes of base classes, on any number of processes.

    Args:
        model: in training, with the base classes as its vocabulary.
        args: see [`DetectionTrainingArguments`].
        train_dataset: see [`DetectionExamples`].
        encoder: checkpoint of the frozen encoder, for the record.
    """

    average = None
    resumed_from: Path | None = None

    def __init__(self, model: OpenVocabularyDetector, args: Any, train_dataset: DetectionExamples, encoder: str):
        self.run_log, self.objective, self.encoder = RunLog(), _NoState(), encoder
        self.stop = StopOnSignal()
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            data_collator=train_dataset.collate,
            callbacks=[Restore(self), FlatMemory(), self.stop],
        )
        self.model_accepts_loss_kwargs = False

    def train(self, resume_from_checkpoint: str | None = None, **settings: Any) -> Any:
        self.resumed_from = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        with stopping(self):
            return super().train(resume_from_checkpoint, **settings)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of this rank, with an order that depends on seed and epoch alone."""
        return epoch_loader(self.train_dataset, self.args, self.data_collator)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """The sum of the losses of proposals and heads, each logged."""
        losses = model(inputs["images"], inputs["targets"])
        loss = sum(losses.values())

        def describe() -> tuple[bool, str]:
            values = {name: value.item() for name, value in losses.items()}
            return not torch.isfinite(loss).item(), f"step {self.state.global_step}, {values}"

        watch_step(loss, self.stop, describe)
        boxes = sum(len(target["boxes"]) for target in inputs["targets"])
        self.run_log.add({"loss": loss, **losses}, {"images": len(inputs["images"]), "boxes": boxes})
        return (loss, losses) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = {**logs, **self.run_log.drain()}
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if self.args.should_save:
            detector = self.accelerator.unwrap_model(self.model)
            save_detector(detector, Path(output_dir or self.args.output_dir), self.encoder)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        with self.run_log.paused():
            save_checkpoint(self)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        detector = self.accelerator.unwrap_model(model or self.model)
        detector.load_trained_state(load_file(Path(resume_from_checkpoint) / WEIGHTS))
