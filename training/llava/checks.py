"""What must fit together before the first step: model, processor, template, lengths."""

from collections.abc import Callable
from typing import Any

from transformers import LlavaForConditionalGeneration, LlavaProcessor
from trl.chat_template_utils import has_generation_markers, is_chat_template_stop_token_trained

from .template import IMAGE


def check_fits(model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> None:
    """Sizes and tokens of a model and its processor.

    Raises:
        ValueError: they differ.
    """
    config, vision = model.config, model.config.vision_config
    pixels = processor.image_processor.crop_size if processor.image_processor.do_center_crop else None
    pixels = pixels or processor.image_processor.size
    facts = {
        "pixels a side": (pixels["height"], vision.image_size),
        "pixels a patch": (processor.patch_size, vision.patch_size),
        "vision_feature_select_strategy": (
            processor.vision_feature_select_strategy,
            config.vision_feature_select_strategy,
        ),
        f"id of {IMAGE}": (processor.tokenizer.convert_tokens_to_ids(IMAGE), config.image_token_id),
        "tokens an image": (image_tokens(processor), config.image_seq_length),
    }
    for what, (ours, theirs) in facts.items():
        if ours != theirs:
            raise ValueError(
                f"The processor has {ours} {what} and the model {theirs}. Build both with `fgclip llava build`, which "
                "takes them from the encoder."
            )
    embeddings = model.get_input_embeddings().num_embeddings
    if len(processor.tokenizer) > embeddings:
        raise ValueError(f"The tokenizer has {len(processor.tokenizer)} tokens and the model {embeddings} embeddings.")


def image_tokens(processor: LlavaProcessor) -> int:
    """How many `<image>` tokens an image becomes."""
    size = processor.image_processor.crop_size if processor.image_processor.do_center_crop else None
    side = (size or processor.image_processor.size)["height"]
    strategy = processor.vision_feature_select_strategy
    return (side // processor.patch_size) ** 2 + processor.num_additional_image_tokens - (strategy == "default")


def check_template(processor: LlavaProcessor) -> None:
    """That the loss sees answers and their end, and nothing else.

    Raises:
        ValueError: the template has no marks around what is learned, or the end of an answer stands outside of them.
    """
    if not processor.chat_template or not has_generation_markers(processor.chat_template):
        raise ValueError(
            "The chat template has no {% generation %} around answers, so nothing says what is learned. Take "
            "training.llava.template.VICUNA_V1, as `fgclip llava build` does."
        )
    if not is_chat_template_stop_token_trained(processor):
        raise ValueError(
            f"The chat template ends its {{% generation %}} before {processor.tokenizer.eos_token}, so the model would "
            "never learn to stop. Put the token inside, as training.llava.template.VICUNA_V1 does."
        )


def prompt_of(processor: LlavaProcessor, question: str, has_image: bool) -> str:
    """What stands before the first answer of a conversation."""
    content = [*([{"type": "image"}] if has_image else []), {"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def check_length(processor: LlavaProcessor, max_length: int | None, prompt: str) -> None:
    """That an answer begins before `max_length` cuts its row off.

    Args:
        prompt: what stands before it, with one `<image>` or none.

    Raises:
        ValueError: nothing of the answer is left.
    """
    if max_length is None:
        return
    needed = len(processor.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    image = image_tokens(processor) if IMAGE in prompt else 0
    needed += image - bool(image)
    if max_length <= needed:
        raise ValueError(
            f"Received max_length={max_length}; the first answer comes after {needed} tokens, {image} of them the image's, "
            f"so nothing of it would be learned. Give more than {needed} (LLaVA: 2048)."
        )


def checking_length(
    example: Callable[[dict[str, Any]], dict[str, Any]], processor: LlavaProcessor, max_length: int | None
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """[`~training.llava.data.finetune_example`] that refuses rows whose first question leaves no room for its answer."""
    around = len(prompt_of(processor, "", True).encode()) + image_tokens(processor)

    def checked(row: dict[str, Any]) -> dict[str, Any]:
        made = example(row)
        question = made["messages"][0]["content"]
        # A token has a byte at least; few rows need to be counted.
        if max_length is not None and around + len(question.encode()) >= max_length:
            check_length(processor, max_length, prompt_of(processor, question, bool(made["images"])))
        return made

    return checked
