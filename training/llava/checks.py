"""What must fit together before the first step: model, processor, template, lengths."""

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


def check_length(processor: LlavaProcessor, max_length: int | None, prompt: str) -> None:
    """That an answer fits behind the image.

    Args:
        prompt: the shortest that a row with an image has, with one `<image>`.

    Raises:
        ValueError: `max_length` is used up before the answer.
    """
    if max_length is None:
        return
    ids = processor.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    needed = len(ids) - 1 + image_tokens(processor)
    if max_length <= needed:
        raise ValueError(
            f"Received max_length={max_length}; an image takes {image_tokens(processor)} tokens and the words around it "
            f"{len(ids) - 1}, so nothing is left for the answer. Give more than {needed} (LLaVA: 2048)."
        )
