"""FGCLIPTrainer: Trainer for both stages of FG-CLIP."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from huggingface_hub import CommitInfo
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback

from dataset_scripts.streaming import TrainingStream
from modeling_fgclip import FGCLIP2Model, FGCLIP2Processor, FGCLIPModel, FGCLIPProcessor

from .arguments import FGCLIPTrainingArguments
from .checkpointing.ema import WeightAverage
from .checkpointing.resuming import Restore, checkpoint_to_resume, load_weights
from .checkpointing.saving import save_checkpoint, save_model
from .data.collator import NO_TEXT, FGCLIPCollator
from .data.loading import epoch_loader, loader_settings
from .data.pixels import normalized
from .data.stream_loading import StreamDataLoader
from .efficiency.activation_checkpointing import checkpoint_selectively
from .efficiency.compiling import compile_encoders
from .efficiency.gradient_cache import CachedBatch, cache_gradients
from .efficiency.host_memory import FlatMemory
from .efficiency.optimizer_in_backward import OptimizerInBackward
from .evaluation import EvalTasks, evaluate_tasks
from .family import training_family
from .forward import Teacher, embed, freeze_text
from .hub.publishing import publish
from .hub.run_record import Provenance
from .losses.term import StepOutput
from .objective import Objective
from .optimizer import parameter_groups
from .run_log import RunLog, peak_flops
from .stopping import StopOnSignal, stopping
from .temperatures import TEMPERATURES, ClampTemperatures, prepare_temperatures
from .watching import watch_step

logger = logging.getLogger(__name__)


class FGCLIPTrainer(Trainer):
    """Trains FG-CLIP on records, on any number of processes.

    Saving is in `checkpointing/saving.py`, resuming in `checkpointing/resuming.py`. What is taken of Trainer beyond its
    public interface is listed in `trainer_internals.py`.

    Args:
        model: moved, wrapped and trained in place.
        args: of a stage; their `losses` are what is minimized.
        train_dataset: records of the schema (`dataset_scripts/schema.py`), map-style or a stream of this rank's.
        processing_class: the processor saved with every checkpoint.
        data_collator: by default an [`FGCLIPCollator`] without augmentation.
        callbacks: further ones.
        eval_dataset: options of each task to evaluate while training, by its name (`training/evaluation.py`);
            `eval_strategy`, `metric_for_best_model` (`retrieval_i2t_r1`, …) and `load_best_model_at_end` work as usual.
        provenance: names of the data, and of the checkpoint where `model` does not know it, for the record of the run.
    """

    args: FGCLIPTrainingArguments

    def __init__(
        self,
        model: FGCLIPModel | FGCLIP2Model,
        args: FGCLIPTrainingArguments,
        train_dataset: Dataset | TrainingStream,
        processing_class: FGCLIPProcessor | FGCLIP2Processor,
        data_collator: FGCLIPCollator | None = None,
        callbacks: list[TrainerCallback] | None = None,
        eval_dataset: EvalTasks | None = None,
        provenance: Provenance | None = None,
    ):
        self.objective = args.objective
        self.teacher = Teacher(model) if "teacher" in self.objective.needs else None
        prepare_temperatures(model)
        if args.selective_activation_checkpointing:
            checkpoint_selectively(model)
        if args.compile_settings:
            compile_encoders(model, **args.compile_settings)
        self.family = training_family(model)
        if "bias" in self.objective.needs and not self.family.has_bias:
            raise ValueError(
                f"Received the loss sigmoid for an {self.family.name}, whose logits have no bias; its loss is global. "
                "Start from a SigLIP 2 or FG-CLIP 2 checkpoint, or change --losses."
            )
        for name in TEMPERATURES:
            # One that no loss uses must not wait for a gradient.
            getattr(model, name).requires_grad_(name in self.objective.temperatures.values())
        unused = self.family.unused(self.objective.needs)
        for name, parameter in model.named_parameters():
            if unused and name.startswith(unused):
                parameter.requires_grad_(False)
        if "texts" not in self.objective.needs:
            freeze_text(model)
        if data_collator is None:
            data_collator = FGCLIPCollator(processing_class, seed=args.seed, **self.objective.collation())
        self.provenance = provenance or Provenance()
        self.resumed_from: Path | None = None
        self.run_log = RunLog(peak_flops(args))
        self.stop = StopOnSignal()
        self.average = WeightAverage(model, args.ema_decay) if args.ema_decay else None
        self._in_backward: OptimizerInBackward | None = None
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
                EndStep(self.objective),
                *([self.average] if self.average else []),
                Restore(self),
                FlatMemory(),
                *(callbacks or []),
                self.stop,
            ],
        )
        if self.average and (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            raise ValueError("ema_decay needs whole float32 weights on each process: one process or DDP, not shards.")
        if args.optimizer_in_backward and (args.world_size > 1 or self.is_deepspeed_enabled or self.is_fsdp_enabled):
            raise ValueError(
                f"optimizer_in_backward updates weights before gradients could be averaged over processes: received "
                f"{args.world_size} of them, or DeepSpeed or FSDP. Start one process without these, or leave it out."
            )
        images = args.train_batch_size * args.world_size
        if images * (args.gradient_accumulation_steps if args.gradient_caching else 1) == 1:
            logger.warning(
                "A batch holds one image, and a contrastive loss compares the images of a batch: the global loss is 0 and "
                "trains nothing. Raise per_device_train_batch_size, or pass gradient_caching with "
                "gradient_accumulation_steps."
            )
        # The loss is a mean over the whole batch: with accumulation it is divided by the number of batches.
        self.model_accepts_loss_kwargs = False

    def train(self, resume_from_checkpoint: str | bool | None = None, **settings: Any) -> Any:
        """As Trainer's; `True` resumes from the newest checkpoint of `output_dir` that is as it was written.

        Raises:
            Stopped: SIGTERM or Ctrl-C; what was trained so far is saved.
        """
        if isinstance(resume_from_checkpoint, bool):
            resume_from_checkpoint = checkpoint_to_resume(self.args) if resume_from_checkpoint else None
        self.resumed_from = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        with stopping(self):
            return super().train(resume_from_checkpoint, **settings)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of this rank. Not handed to accelerate: the sampler shards, `_prepare_inputs` moves."""
        if isinstance(self.train_dataset, TrainingStream):
            # Workers learn of the next epoch when they start.
            settings = loader_settings(self.args) | {"persistent_workers": False}
            return StreamDataLoader(self.train_dataset, self.args.train_batch_size, self.data_collator, **settings)
        return epoch_loader(self.train_dataset, self.args, self.data_collator)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Equation 5 on a batch of [`FGCLIPCollator`]: one forward, then the losses."""
        outputs = self._embed(model, inputs)
        losses = self.objective.losses(outputs, inputs)
        loss = self.objective.total(losses)
        self._watch(loss, losses, [inputs], [outputs])
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, *arguments: Any, **settings: Any) -> tuple[list, torch.Tensor | int | None]:
        start = time.perf_counter()
        batches, items = super().get_batch_samples(*arguments, **settings)
        self.run_log.add_wait(time.perf_counter() - start)
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
        with cached.random_state.repeated():
            loss = cached.loss(embed(model, self._prepare_inputs(inputs)))
        is_deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        self.accelerator.backward(loss, **({"scale_wrt_gas": False} if is_deepspeed else {}))
        return self._step_loss / len(self._step_batches)

    def _cache_step(self, model: torch.nn.Module) -> None:
        outputs: list[StepOutput] = []

        def embed_batch(batch: dict[str, Any]) -> StepOutput:
            outputs.append(self._embed(model, self._prepare_inputs(batch)))
            return outputs[-1]

        device = self.accelerator.device
        losses, self._cached_batches = cache_gradients(embed_batch, self._step_batches, self.objective, device)
        self._step_loss = self.objective.total(losses)
        self._watch(self._step_loss, losses, self._step_batches, outputs)

    def _embed(self, model: torch.nn.Module, inputs: dict[str, Any]) -> StepOutput:
        output = embed(model, inputs)
        if self.teacher is not None:
            with self.accelerator.autocast():
                output.teacher_embeds = self.teacher.embed(normalized(inputs, "teacher_crops"))
        return output

    def _watch(
        self,
        loss: torch.Tensor,
        losses: dict[str, torch.Tensor],
        batches: list[dict[str, Any]],
        outputs: list[StepOutput],
    ) -> None:
        """Notes a step's losses and counts, stops at a loss that is not finite, and learns of signals."""

        def describe() -> tuple[bool, str]:
            values = {name: value.item() for name, value in losses.items()}
            bad = [source for pair in zip(batches, outputs, strict=True) for source in not_finite(*pair)]
            everyone = [source for batch in batches for source in batch["source_ids"]]
            found = f"records whose embeddings are not finite: {bad}" if bad else f"batch: {everyone}"
            return bool(bad), f"step {self.state.global_step}, {values}, temperatures {self._temperatures()}, {found}"

        watch_step(loss, self.stop, describe)
        parts = {f"loss_{name}": value for name, value in losses.items()}
        counts = [_counts(batch) | {"flops": self.family.batch_flops(self.model.config, batch)} for batch in batches]
        self.run_log.add({"loss": loss, **parts}, {name: sum(count[name] for count in counts) for name in counts[0]})

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
            if self.args.optimizer_in_backward:
                self._in_backward = OptimizerInBackward(self.optimizer)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            temperatures = {f"temperature_{term}": value for term, value in self._temperatures().items()}
            logs = {**logs, **self.run_log.drain(), **temperatures}
            if self._in_backward:
                logs["grad_norm"] = self._in_backward.gradient_norm()
        super().log(logs, start_time)

    def _temperatures(self) -> dict[str, float]:
        """By the term that uses it."""
        return {term: (-getattr(self.model, name)).exp().item() for term, name in self.objective.temperatures.items()}

    def evaluate(
        self,
        eval_dataset: EvalTasks | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Scores of tasks, as fractions, under `eval_TASK_SCORE`.

        Args:
            eval_dataset: task → options; by default those of the constructor.
        """
        model, tasks = self.accelerator.unwrap_model(self.model), eval_dataset or self.eval_dataset
        with self.run_log.paused():
            metrics = evaluate_tasks(model, self.processing_class, tasks, self.args, metric_key_prefix)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        evaluation: str | Path | None = None,
    ) -> CommitInfo | None:
        """Saves and publishes the model; see [`~training.hub.publishing.publish`]. On all processes; only the first
        one uploads.

        Args:
            blocking: must be true: the folder that is uploaded is a temporary one.
        """
        if not blocking:
            raise ValueError("Received blocking=False; push_to_hub returns when the upload is done.")
        self.save_model(_internal_call=True)
        options = {"evaluation": evaluation, "private": private, "revision": revision, "token": token}
        return self.publish(self.args.output_dir, commit_message or "End of training", **options)

    def publish(self, folder: str | Path, commit_message: str, **options: Any) -> CommitInfo | None:
        """Publishes a folder that this run wrote, as its arguments say where `options` do not. The first process does."""
        if not self.is_world_process_zero():
            return None
        args = self.args
        defaults = {"private": args.hub_private_repo, "revision": args.hub_revision, "token": args.hub_token}
        options = defaults | {name: value for name, value in options.items() if value is not None}
        repo_id = args.hub_model_id or Path(args.output_dir).absolute().name
        return publish(folder, repo_id, commit_message=commit_message, **options)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if self.args.should_save:
            save_model(self, Path(output_dir or self.args.output_dir), state_dict)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        with self.run_log.paused():
            save_checkpoint(self)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        load = super()._load_from_checkpoint
        load_weights(self, Path(resume_from_checkpoint), lambda: load(resume_from_checkpoint, model))

    def _load_best_model(self) -> None:
        best = Path(self.state.best_model_checkpoint)
        load_weights(self, best, super()._load_best_model)
        if self.average is not None:
            self.average.load(best)

    def _run_epoch(self, *arguments: Any, **settings: Any) -> None:
        # Trainer would do a step before it looks: of a run that was finished when it was resumed.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*arguments, **settings)


class EndStep(TrainerCallback):
    """Lets terms of the objective that have a state go on to the next step."""

    def __init__(self, objective: Objective):
        self.objective = objective

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.objective.end_step()


def not_finite(batch: dict[str, Any], output: StepOutput) -> list[str]:
    """The records of a batch of which an image's, a caption's or an expression's embedding is not finite."""
    bad = ~output.image_embeds.isfinite().all(-1).cpu()
    if output.text_embeds is not None:
        bad_texts = ~output.text_embeds.isfinite().all(-1).cpu()
        for name in ("long_index", "short_index", "region_index"):
            if name in batch:
                rows = batch[name].cpu().view(len(bad), -1)
                bad |= (bad_texts[rows.clamp(min=0)] & (rows != NO_TEXT)).any(-1)
    return [source for source, is_bad in zip(batch["source_ids"], bad.tolist(), strict=True) if is_bad]


def _counts(inputs: dict[str, Any]) -> dict[str, int]:
    counts = {"images": len(inputs["pixel_values"])}
    if "packed_texts" in inputs:
        counts["text_tokens"] = sum(texts * length for texts, length in inputs["packed_texts"]["length_groups"])
    if "region_index" in inputs:
        counts["regions"] = (inputs["region_index"] != NO_TEXT).sum()
        counts["hard_negatives"] = (inputs["hard_index"][:, 1:] != NO_TEXT).sum()
    return counts
