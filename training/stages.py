"""What both stages do: load, train, save."""

import logging
import sys
from collections.abc import Sequence

from datasets import Dataset
from transformers import TrainerCallback

from dataset_scripts.streaming import TrainingStream
from modeling_fgclip.checked_loading import UnsoundCheckpoint

from .arguments import DataArguments, FGCLIPTrainingArguments, ModelArguments
from .checkpointing.resuming import checkpoint_to_resume
from .cli import parse_arguments
from .data.augmentation import Augmentation
from .data.collator import FGCLIPCollator
from .data.sources import load_records, load_stream
from .efficiency.lora import add_lora
from .evaluation import eval_tasks
from .family import training_family
from .hub.run_record import Sources
from .temperatures import set_temperatures
from .trainer import FGCLIPTrainer

logger = logging.getLogger(__name__)


def main(stage: type[FGCLIPTrainingArguments], arguments: Sequence[str] | None = None) -> None:
    """The command line of a stage: mistakes are told in one line, with exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        model, data, training = parse_arguments(stage, arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")
    try:
        train(model, data, training)
    except UnsoundCheckpoint as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def train(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    arguments: FGCLIPTrainingArguments,
    callbacks: list[TrainerCallback] | None = None,
) -> FGCLIPTrainer:
    """Trains a stage and saves model and processor in `output_dir`."""
    tasks = eval_tasks(arguments)
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
    sources = Sources(data_arguments.train_data)
    trainer = FGCLIPTrainer(model, arguments, records, processor, collator, callbacks, tasks, sources)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    trainer.save_state()
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
