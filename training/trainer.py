"""FGCLIPTrainer: Trainer for both stages of FG-CLIP."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback

from dataset_scripts.streaming import TrainingStream
from modeling_fgclip import FGCLIPModel, FGCLIPOutput, FGCLIPProcessor

from .arguments import FGCLIPTrainingArguments
from .checkpointing.ema import WeightAverage
from .checkpointing.resuming import LoadExtras, ResumableTrainer
from .data.collator import NO_TEXT, FGCLIPCollator
from .data.loading import DrawnRecords, EpochDataLoader, ShuffledBatches
from .data.stream_loading import StreamDataLoader
from .efficiency.compiling import compile_encoders
from .efficiency.gradient_cache import CachedBatch, cache_gradients
from .efficiency.lora import has_lora, load_adapters, merged_state, save_adapters
from .efficiency.selective_checkpointing import checkpoint_selectively
from .efficiency.step_in_backward import StepInBackward
from .hub.publishing import PublishingTrainer
from .optimizer import parameter_groups
from .planning.flops import batch_flops
from .run_log import RunLog
from .temperatures import TEMPERATURES, ClampTemperatures, checkpoint_state, prepare_temperatures
from .watching import EvalTasks, WatchedTrainer, peak_flops

# What FGCLIPModel.forward takes of a batch; the rest says who belongs to whom.
MODEL_INPUTS = ("pixel_values", "packed_texts", "boxes")


class FGCLIPTrainer(WatchedTrainer, ResumableTrainer, PublishingTrainer):
    """Trains FG-CLIP on records, on any number of processes.

    Args:
        model: moved, wrapped and trained in place.
        args: of a stage; their loss weights decide which losses there are.
        train_dataset: records of the schema (`dataset_scripts/schema.py`), map-style or a stream of this rank's.
        processing_class: the processor saved with every checkpoint.
        data_collator: by default an [`FGCLIPCollator`] without augmentation.
        callbacks: further ones.
        eval_dataset: options of each task to evaluate while training, by its name (`training/watching.py`).
    """

    args: FGCLIPTrainingArguments

    def __init__(
        self,
        model: FGCLIPModel,
        args: FGCLIPTrainingArguments,
        train_dataset: Dataset | TrainingStream,
        processing_class: FGCLIPProcessor,
        data_collator: FGCLIPCollator | None = None,
        callbacks: list[TrainerCallback] | None = None,
        eval_dataset: EvalTasks | None = None,
    ):
        self.objective = args.objective
        prepare_temperatures(model)
        if args.selective_checkpointing:
            checkpoint_selectively(model)
        if args.compile_settings:
            compile_encoders(model, **args.compile_settings)
        used = {
            "global",
            *(["regional"] if args.regional_loss_weight else []),
            *(["hard"] if args.hard_loss_weight else []),
        }
        for part, name in TEMPERATURES.items():
            # One that no loss uses must not wait for a gradient.
            getattr(model, name).requires_grad_(part in used)
        if data_collator is None:
            regions = {} if self.objective.uses_regions else {"max_regions": 0}
            data_collator = FGCLIPCollator(processing_class, seed=args.seed, **regions)
        self.run_log = RunLog(peak_flops(args))
        self.average = WeightAverage(model, args.ema_decay) if args.ema_decay else None
        self._in_backward: StepInBackward | None = None
        self._step_batches: list[dict[str, Any]] = []
        self._cached_batches: list[CachedBatch] = []
        self._step_loss = torch.zeros(())
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            processing_class=processing_class,
            eval_dataset=eval_dataset,
            # In this order: what is averaged is clamped, and what is loaded is the average.
            callbacks=[
                ClampTemperatures(args.max_scale),
                *([self.average] if self.average else []),
                LoadExtras(self),
                *(callbacks or []),
            ],
        )
        if self.average and (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            raise ValueError("ema_decay needs whole float32 weights on each process: one process or DDP, not shards.")
        if args.step_in_backward and (args.world_size > 1 or self.is_deepspeed_enabled or self.is_fsdp_enabled):
            raise ValueError(
                f"step_in_backward updates weights before gradients could be averaged over processes: received "
                f"{args.world_size} of them, or DeepSpeed or FSDP. Start one process without these, or leave it out."
            )
        # The loss is a mean over the whole batch: with accumulation it is divided by the number of batches.
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> DataLoader:
        """Batches of this rank. Not handed to accelerate: the sampler shards, `_prepare_inputs` moves."""
        workers = self.args.dataloader_num_workers
        settings = {
            "pin_memory": self.args.dataloader_pin_memory and torch.cuda.is_available(),
            "prefetch_factor": self.args.dataloader_prefetch_factor if workers else None,
        }
        if isinstance(self.train_dataset, TrainingStream):
            return StreamDataLoader(
                self.train_dataset, self._train_batch_size, self.data_collator, workers, **settings
            )
        batches = ShuffledBatches(
            len(self.train_dataset),
            self._train_batch_size,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            rank=self.args.process_index,
            world_size=self.args.world_size,
        )
        return EpochDataLoader(
            DrawnRecords(self.train_dataset),
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=workers,
            persistent_workers=bool(workers) and self.args.dataloader_persistent_workers,
            **settings,
        )

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Equation 5 on a batch of [`FGCLIPCollator`]: one forward, then the losses."""
        outputs = embed(model, inputs)
        losses = self.objective.losses(outputs, inputs)
        loss = self.objective.total(losses)
        self._watch(loss, losses, [inputs])
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, *arguments: Any, **settings: Any) -> tuple[list, torch.Tensor | int | None]:
        batches, items = super().get_batch_samples(*arguments, **settings)
        self._step_batches, self._cached_batches = batches, []
        return batches, items

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A backward pass on a batch; with gradient caching, of its share of the whole step's contrastive batch."""
        if self._in_backward:
            self._in_backward.begin()
        if not self.args.gradient_caching:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        if not self._cached_batches:
            self._cache_step(model)
        cached = self._cached_batches.pop(0)
        with torch.random.fork_rng():
            torch.set_rng_state(cached.random_state)
            loss = cached.loss(embed(model, self._prepare_inputs(inputs)))
        is_deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        self.accelerator.backward(loss, **({"scale_wrt_gas": False} if is_deepspeed else {}))
        return self._step_loss / len(self._step_batches)

    def _cache_step(self, model: torch.nn.Module) -> None:
        losses, self._cached_batches = cache_gradients(
            lambda batch: embed(model, self._prepare_inputs(batch)), self._step_batches, self.objective
        )
        self._step_loss = self.objective.total(losses)
        self._watch(self._step_loss, losses, self._step_batches)

    def _watch(self, loss: torch.Tensor, losses: dict[str, torch.Tensor], batches: list[dict[str, Any]]) -> None:
        """Notes a step's losses and counts, and stops at a loss that is not finite."""
        if not torch.isfinite(loss):
            values = {name: value.item() for name, value in losses.items()}
            raise FloatingPointError(
                f"The loss is not finite at step {self.state.global_step}: {values}, temperatures "
                f"{self._temperatures()}. Batch: {[source for batch in batches for source in batch['source_ids']]}. "
                "Lower the learning rate, clip gradients (max_grad_norm), or look at these records."
            )
        counts = [_counts(batch) | {"flops": batch_flops(self.model.config, batch)} for batch in batches]
        self.run_log.add(losses, {name: sum(count[name] for count in counts) for name in counts[0]})

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            groups = parameter_groups(
                self.model if model is None else model,
                self.args.weight_decay,
                self.args.learning_rate,
                self.args.text_learning_rate,
            )
            self.optimizer = optimizer_class(groups, **settings)
            if self.args.step_in_backward:
                self._in_backward = StepInBackward(self.optimizer)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            temperatures = {f"temperature_{part}": value for part, value in self._temperatures().items()}
            logs = {**logs, **self.run_log.drain(), **temperatures}
            if self._in_backward:
                logs["grad_norm"] = self._in_backward.gradient_norm()
        super().log(logs, start_time)

    def _temperatures(self) -> dict[str, float]:
        """Temperatures in use, by the part of the loss."""
        return {
            part: (-getattr(self.model, name)).exp().item()
            for part, name in TEMPERATURES.items()
            if getattr(self.model, name).requires_grad
        }

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if has_lora(self.model):
            state_dict = merged_state(self.model)
        super()._save(output_dir, checkpoint_state(self.model.state_dict() if state_dict is None else state_dict))
        if self.average is not None and self.args.should_save:
            self.average.save(Path(output_dir or self.args.output_dir))

    def _save_extras(self, folder: Path) -> None:
        super()._save_extras(folder)
        if has_lora(self.model) and self.args.should_save:
            save_adapters(self.model, folder)

    def _load_extras(self, folder: Path) -> None:
        super()._load_extras(folder)
        if self.average is not None:
            self.average.load(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if has_lora(self.model):
            # Its weights are merged; the ones to adapt are those that training started from.
            load_adapters(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)


def embed(model: torch.nn.Module, inputs: dict[str, Any]) -> FGCLIPOutput:
    """The one forward of a step: everything the losses need of a batch of the collator."""
    return model(**{name: inputs[name] for name in MODEL_INPUTS if name in inputs})


def _counts(inputs: dict[str, Any]) -> dict[str, int]:
    tokens = sum(texts * length for texts, length in inputs["packed_texts"]["length_groups"])
    counts = {"images": len(inputs["pixel_values"]), "text_tokens": tokens}
    if "region_index" in inputs:
        counts["regions"] = (inputs["region_index"] != NO_TEXT).sum()
        counts["hard_negatives"] = (inputs["hard_index"][:, 1:] != NO_TEXT).sum()
    return counts
