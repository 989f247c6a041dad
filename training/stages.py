"""What both stages do: load, train, save."""

import logging
from collections.abc import Sequence

from datasets import Dataset
from transformers import TrainerCallback

from dataset_scripts.streaming import TrainingStream
from eval.locking import writing_together

from .arguments import FGCLIPTrainingArguments
from .checkpointing.resuming import checkpoint_to_resume
from .checkpointing.saving import save_finished
from .cli import parse_arguments
from .data.augmentation import Augmentation
from .data.collator import FGCLIPCollator
from .data.sources import load_records, load_stream
from .efficiency.lora import add_lora
from .evaluation import EvalTasks, eval_tasks
from .family import training_family
from .hub.run_record import Provenance
from .options import DataArguments, ModelArguments
from .temperatures import set_temperatures
from .trainer import FGCLIPTrainer

logger = logging.getLogger(__name__)


def main(stage: type[FGCLIPTrainingArguments], arguments: Sequence[str] | None = None) -> None:
    """The command line of a stage."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    # Not the root, or the Hub client tells every request.
    for name in ("training", "dataset_scripts", "eval"):
        logging.getLogger(name).setLevel(logging.INFO)
    train(*parse_arguments(stage, arguments))


def train(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    arguments: FGCLIPTrainingArguments,
    callbacks: list[TrainerCallback] | None = None,
) -> FGCLIPTrainer:
    """Trains a stage and saves model and processor in `output_dir`, which no other run may use meanwhile.

    Args:
        model_arguments: the checkpoint to start from.
        data_arguments: sources, augmentation, how many regions.
        arguments: `Stage1Arguments` or `Stage2Arguments`; `parse_arguments` makes all three of a recipe and options.
        callbacks: further ones for the trainer.

    Returns:
        The trainer, with the trained model and the log.

    Raises:
        ValueError: settings, data or a checkpoint that cannot be trained, or another run writes to `output_dir`.
        NotSaved: the disk is full, or cannot be written.
        Stopped: SIGTERM or Ctrl-C; what was trained so far is saved.
    """
    tasks = eval_tasks(arguments)
    arguments.device  # noqa: B018  sets up the processes
    with writing_together(arguments.output_dir):
        return _train(model_arguments, data_arguments, arguments, callbacks, tasks)


def _train(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    arguments: FGCLIPTrainingArguments,
    callbacks: list[TrainerCallback] | None,
    tasks: EvalTasks | None,
) -> FGCLIPTrainer:
    checkpoint = checkpoint_to_resume(arguments)
    source = {"revision": model_arguments.revision} if model_arguments.revision else {}
    family = training_family(model_arguments.model_name_or_path, **source).base
    processor = family.processor.from_pretrained(model_arguments.model_name_or_path, **source)
    if model_arguments.attn_implementation:
        source["attn_implementation"] = model_arguments.attn_implementation
    # Master weights stay in float32, whatever the checkpoint was stored in.
    model = family.model.from_pretrained(model_arguments.model_name_or_path, dtype="float32", **source)
    if arguments.init_temperature is not None:
        set_temperatures(model, arguments.init_temperature)
    records = _records(data_arguments, arguments)
    if arguments.lora_rank:
        add_lora(model, arguments.lora_rank, arguments.lora_alpha, arguments.lora_dropout)
    augmentation = Augmentation(
        flip=data_arguments.flip,
        min_crop=data_arguments.min_crop,
        short_from_long=data_arguments.short_from_long,
        long_subset=data_arguments.long_subset,
    )
    collator = FGCLIPCollator(
        processor,
        short_caption_prefix=data_arguments.short_caption_prefix,
        augmentation=augmentation,
        seed=arguments.seed,
        **arguments.objective.collation(data_arguments.max_regions),
    )
    provenance = Provenance(data_arguments.train_data)
    trainer = FGCLIPTrainer(model, arguments, records, processor, collator, callbacks, tasks, provenance)
    with trainer.stop.listening():
        trainer.train(resume_from_checkpoint=checkpoint)
        save_finished(trainer)
    trainer.accelerator.end_training()
    return trainer


def _records(data: DataArguments, arguments: FGCLIPTrainingArguments) -> Dataset | TrainingStream:
    sources = ", ".join(data.train_data)
    if not data.streaming:
        with arguments.main_process_first(desc="reading the training data"):
            records = load_records(data.train_data, data.max_samples, data.on_bad, data.verify_shards)
        logger.info("Training on %d records: %s", len(records), sources)
        return records
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    stream = load_stream(
        data.train_data,
        data.data_weights,
        seed,
        arguments.process_index,
        arguments.world_size,
        data.on_bad,
        data.verify_shards,
    )
    if stream.is_endless and arguments.max_steps <= 0:
        raise ValueError(
            "Streaming from FineHARD's published layout needs --max_steps: how many records it holds is not known before "
            "they are read. `python -m dataset_scripts.convert` makes shards of it, which have epochs."
        )
    logger.info("Streaming %s", sources if stream.is_endless else f"{len(stream)} records a process from {sources}")
    return stream
