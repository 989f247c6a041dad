"""What both stages do: load, freeze, train, save."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from eval.locking import writing_together
from training.checkpointing.resuming import checkpoint_to_resume
from training.checkpointing.saving import save_finished
from training.cli import parse_dataclasses
from training.efficiency.lora import add_lora

from .arguments import FinetuneArguments, LlavaTrainingArguments, PretrainArguments
from .checks import check_fits, check_length, check_template, checking_length, prompt_of
from .collator import LlavaCollator
from .data import CAPTIONS, MESSAGES, finetune_example, load_examples, pretrain_example
from .optimizer import PROJECTOR
from .options import LlavaDataArguments, LlavaModelArguments
from .template import IMAGE
from .trainer import LlavaTrainer

logger = logging.getLogger(__name__)

TOWER, HEAD = "vision_tower.", "lm_head."


def main(stage: type[LlavaTrainingArguments], arguments: Sequence[str] | None = None) -> None:
    """The command line of a stage."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    train(*parse_dataclasses((LlavaModelArguments, LlavaDataArguments, stage), arguments, stage.__doc__))


def train(model: LlavaModelArguments, data: LlavaDataArguments, arguments: LlavaTrainingArguments) -> LlavaTrainer:
    """Trains a stage and saves model and processor in `output_dir`, which no other run may use meanwhile.

    Raises:
        ValueError: settings, data or a model that cannot be trained, or another run writes to `output_dir`.
        NotSaved: the disk is full, or cannot be written.
        Stopped: SIGTERM or Ctrl-C; what was trained so far is saved.
    """
    arguments.device  # noqa: B018  sets up the processes
    with writing_together(arguments.output_dir):
        return _train(model, data, arguments)


def _train(source: LlavaModelArguments, data: LlavaDataArguments, arguments: LlavaTrainingArguments) -> LlavaTrainer:
    checkpoint = checkpoint_to_resume(arguments)
    pretrains = isinstance(arguments, PretrainArguments)
    processor = AutoProcessor.from_pretrained(source.model_name_or_path)
    if not isinstance(processor, LlavaProcessor):
        raise ValueError(
            f"{source.model_name_or_path} holds a {type(processor).__name__}; `fgclip llava build` writes a LLaVA."
        )
    example: Callable
    if pretrains:
        start = processor.tokenizer.bos_token
        prompt, example = start + IMAGE, partial(pretrain_example, start=start)
    else:
        check_template(processor)
        prompt = prompt_of(processor, "", has_image=True)
        example = checking_length(finetune_example, processor, arguments.max_length)
    check_length(processor, arguments.max_length, prompt)
    rows, report = load_examples(
        data.train_data, data.image_folder, example, CAPTIONS if pretrains else MESSAGES, data.on_bad
    )
    logger.info("Training on %d rows:\n%s", len(rows), report)
    settings = {"attn_implementation": source.attn_implementation} if source.attn_implementation else {}
    model = AutoModelForImageTextToText.from_pretrained(source.model_name_or_path, dtype=source.dtype, **settings)
    check_fits(model, processor)
    choose_parameters(model, arguments)
    if arguments.lora_rank and arguments.gradient_checkpointing and arguments.deepspeed_plugin:
        # Adapters under ZeRO-3 (trl, issue 2514).
        arguments.gradient_checkpointing_kwargs = {"use_reentrant": True}
        model.enable_input_require_grads()
    collator = LlavaCollator(processor, data.image_folder, arguments.max_length, completions=pretrains)
    trainer = LlavaTrainer(model, arguments, rows, processor, collator)
    with trainer.stop.listening():
        trainer.train(resume_from_checkpoint=checkpoint)
        save_finished(trainer)
    trainer.accelerator.end_training()
    return trainer


def choose_parameters(model: LlavaForConditionalGeneration, arguments: LlavaTrainingArguments) -> None:
    """Freezes what does not learn, in place: the encoder always, the language model in pretraining and under LoRA.

    What learns becomes float32, since small updates of bfloat16 weights are lost; DeepSpeed keeps float32 copies itself.

    Raises:
        ValueError: adapters outside of the language model.
    """
    if arguments.lora_rank:
        try:
            add_lora(model, arguments.lora_rank, arguments.lora_alpha, arguments.lora_dropout, arguments.lora_targets)
        except ValueError as error:  # peft found nothing of that name
            raise ValueError(f"lora_targets={arguments.lora_targets}: {error}") from None
    for name, parameter in model.named_parameters():
        adapted = "lora_" in name
        if adapted and any(part in name for part in (TOWER, PROJECTOR, HEAD)):
            raise ValueError(
                f"lora_targets={arguments.lora_targets} adapts {name}; name matrices of the language model alone."
            )
        whole = isinstance(arguments, FinetuneArguments) and not arguments.lora_rank and TOWER not in name
        parameter.requires_grad_(adapted or PROJECTOR in name or whole)
        if parameter.requires_grad:
            parameter.data = parameter.data.to(model.dtype if arguments.deepspeed_plugin else torch.float32)
