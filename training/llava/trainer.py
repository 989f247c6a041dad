"""LlavaTrainer: trl's SFTTrainer with this project's batches, checkpoints and manners."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from trl import SFTTrainer

from training.checkpointing.resuming import Restore, load_weights
from training.checkpointing.saving import save_checkpoint
from training.data.loading import EpochDataLoader, loader_settings
from training.efficiency.host_memory import FlatMemory
from training.efficiency.lora import has_lora, merged_state
from training.run_log import RunLog
from training.stopping import StopOnSignal, stopping
from training.watching import watch_step

from .arguments import LlavaTrainingArguments
from .batches import ModalityBatches
from .collator import LlavaCollator
from .optimizer import parameter_groups


class _Counted:
    """trl's own sums, which a resumed run goes on with."""

    def __init__(self, trainer: "LlavaTrainer"):
        self.trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        metrics = {name: list(values) for name, values in self.trainer._metrics["train"].items()}
        return {"metrics": metrics, "tokens": self.trainer._total_train_tokens}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.trainer._metrics["train"].update(state["metrics"])
        self.trainer._total_train_tokens = state["tokens"]


class LlavaTrainer(SFTTrainer):
    """Trains what of a LLaVA is not frozen, on any number of processes.

    A batch without images reaches no projector; ranks have such batches together (`batches.py`).

    Args:
        model: see [`~training.llava.stages.train`].
        train_dataset: see [`~training.llava.data.load_examples`].
        processing_class: saved with every checkpoint.
        data_collator: from rows to batches.
    """

    args: LlavaTrainingArguments
    average = None
    resumed_from: Path | None = None

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        args: LlavaTrainingArguments,
        train_dataset: Dataset,
        processing_class: LlavaProcessor,
        data_collator: LlavaCollator,
    ):
        self.run_log, self.objective, self.stop = RunLog(), _Counted(self), StopOnSignal()
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            data_collator=data_collator,
            callbacks=[Restore(self), FlatMemory(), self.stop],
        )

    def _send_telemetry(self) -> None:
        """trl would tell its makers of each run."""

    def train(self, resume_from_checkpoint: str | None = None, **settings: Any) -> Any:
        """Raises:
        Stopped: SIGTERM or Ctrl-C; what was trained so far is saved.
        """
        self.resumed_from = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        with stopping(self):
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **settings)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of this rank. Not handed to accelerate: the sampler shards, `_prepare_inputs` moves."""
        args = self.args
        batches = ModalityBatches(
            [bool(images) for images in self.train_dataset["images"]],
            list(self.train_dataset["words"]),
            args.train_batch_size,
            args.gradient_accumulation_steps,
            seed=args.data_seed if args.data_seed is not None else args.seed,
            rank=args.process_index,
            world_size=args.world_size,
        )
        return EpochDataLoader(
            self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator, **loader_settings(args)
        )

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            args = self.args
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(args, self.model)
            groups = parameter_groups(
                self.model if model is None else model,
                args.weight_decay,
                args.learning_rate,
                args.projector_learning_rate,
            )
            self.optimizer = optimizer_class(groups, **settings)
        return self.optimizer

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """trl's: the mean over the step's answer tokens, of all ranks."""
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = result[0] if return_outputs else result

        def describe() -> tuple[bool, str]:
            return not torch.isfinite(loss).item(), f"step {self.state.global_step}, loss {loss.item()}"

        watch_step(loss, self.stop, describe)
        images = len(inputs["pixel_values"]) if "pixel_values" in inputs else 0
        self.run_log.add({}, {"images": images, "tokens": int(inputs["attention_mask"].sum())})
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = {**logs, **self.run_log.drain()}
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """A plain LLaVA: adapters are merged."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        model = self.accelerator.unwrap_model(self.model)
        if has_lora(model):
            state_dict = merged_state(model, state_dict)
        # ZeRO-3 loads in a way after which transformers would give weights the old names of LLaVA twice.
        model.save_pretrained(folder, state_dict=state_dict, save_original_format=not self.is_deepspeed_enabled)
        self.processing_class.save_pretrained(folder)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        with self.run_log.paused():
            save_checkpoint(self)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Trainer would look for names that checkpoints of LLaVA do not have, and load nothing."""
        folder, model = Path(resume_from_checkpoint), model or self.model

        def load() -> None:
            # float32 holds weights of every type exactly.
            saved = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
            model.load_state_dict(saved.state_dict())

        load_weights(self, folder, load)
