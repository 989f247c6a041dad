"""What training does differently for FG-CLIP and FG-CLIP 2, in one small object for each.

Which of the two a model or a processor is of is decided by `modeling_fgclip.family`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image
from torch import nn
from transformers import CLIPImageProcessorPil, PreTrainedConfig, ProcessorMixin

from modeling_fgclip import (
    FGCLIP2Config,
    FGCLIP2ImageProcessor,
    FGCLIP2Processor,
    FGCLIPConfig,
    FGCLIPProcessor,
    pack_full_texts,
    pack_texts,
)
from modeling_fgclip.family import FAMILIES, FGCLIP, FGCLIP2, Family, family_of

from .data.pixels import patches, squares
from .data.tokenizer import train_siglip_tokenizer, train_tokenizer
from .planning import flops, flops_fgclip2

TEXT_KINDS = ("short", "box", "long")


@dataclass(frozen=True)
class TrainingFamily:
    """One family's part of training.

    Args:
        base: its model and processor.
        images: from a processor and PIL images to their part of a batch.
        same_texts: by kind of text the kind as which it is encoded; equal texts of equal kinds are one row of a batch.
        pack: texts of a batch, as lists of token ids with their kinds, as the model takes them.
        has_bias: whether the model's logits have one, for the sigmoid loss.
        takes_crops: whether regions can be images of their own in a batch.
        zero_dimensional: parameters that checkpoints hold without a dimension.
        unused: from what an objective needs (`training.losses.term.NEEDS`) to beginnings of the names of parameters
            that no loss of it reaches.
        batch_flops: model FLOPs of a batch.
        from_scratch: from the settings of a recipe and texts for a tokenizer to a configuration and a processor.
    """

    base: Family
    images: Callable[[ProcessorMixin, Sequence[Image]], dict[str, Any]]
    same_texts: dict[str, str]
    pack: Callable[[ProcessorMixin, Sequence[list[int]], Sequence[str], bool], Any]
    has_bias: bool
    takes_crops: bool
    zero_dimensional: tuple[str, ...]
    unused: Callable[[frozenset[str]], tuple[str, ...]]
    batch_flops: Callable[[PreTrainedConfig, dict[str, Any]], int]
    from_scratch: Callable[[dict[str, Any], Iterable[str]], tuple[PreTrainedConfig, ProcessorMixin]]

    @property
    def name(self) -> str:
        return self.base.name


def training_family(what: str | PreTrainedConfig | nn.Module | ProcessorMixin, **kwargs: Any) -> TrainingFamily:
    """Of a checkpoint, a configuration, a model or a processor; see [`~modeling_fgclip.family.family_of`]."""
    if isinstance(what, ProcessorMixin):
        base = next((family for family in FAMILIES.values() if isinstance(what, family.processor)), None)
        if base is None:
            raise ValueError(
                f"Received a {type(what).__name__}; training takes "
                + " or ".join(family.processor.__name__ for family in FAMILIES.values())
                + "."
            )
    else:
        base = family_of(what, **kwargs)
    return TRAINING_FAMILIES[base.model_type]


def _pack(processor: FGCLIPProcessor, ids: Sequence[list[int]], kinds: Sequence[str], share_prefixes: bool) -> Any:
    return pack_texts(ids, [kind == "long" for kind in kinds], share_prefixes)


def _pack_full(
    processor: FGCLIP2Processor, ids: Sequence[list[int]], kinds: Sequence[str], share_prefixes: bool
) -> Any:
    lengths = processor.short_text_length, processor.long_text_length
    return pack_full_texts(ids, kinds, *lengths, processor.tokenizer.pad_token_id)


def _fgclip_from_scratch(settings: dict[str, Any], texts: Iterable[str]) -> tuple[FGCLIPConfig, FGCLIPProcessor]:
    tokenizer = train_tokenizer(texts, settings.pop("vocab_size"))
    settings["text_config"] = {**settings.get("text_config", {}), **_token_ids(tokenizer)}
    config = FGCLIPConfig(**settings)
    size = config.vision_config.image_size
    images = CLIPImageProcessorPil(size={"height": size, "width": size})
    return config, FGCLIPProcessor(images, tokenizer, **_lengths(config))


def _fgclip2_from_scratch(settings: dict[str, Any], texts: Iterable[str]) -> tuple[FGCLIP2Config, FGCLIP2Processor]:
    tokenizer = train_siglip_tokenizer(texts, settings.pop("vocab_size"))
    budgets = settings.pop("patch_budgets", FGCLIP2ImageProcessor.patch_budgets)
    settings["text_config"] = {**settings.get("text_config", {}), **_token_ids(tokenizer)}
    config = FGCLIP2Config(**settings)
    images = FGCLIP2ImageProcessor(patch_size=config.vision_config.patch_size, patch_budgets=list(budgets))
    return config, FGCLIP2Processor(images, tokenizer, **_lengths(config))


def _token_ids(tokenizer: Any) -> dict[str, int]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"vocab_size": len(tokenizer), **{name: getattr(tokenizer, name) for name in names}}


def _lengths(config: FGCLIPConfig | FGCLIP2Config) -> dict[str, int]:
    text = config.text_config
    return {
        "short_text_length": text.max_position_embeddings,
        "long_text_length": text.max_long_position_embeddings,
    }


TRAINING_FAMILIES = {
    family.base.model_type: family
    for family in (
        TrainingFamily(
            base=FGCLIP,
            images=squares,
            same_texts={"short": "short", "box": "short", "long": "long"},
            pack=_pack,
            has_bias=False,
            takes_crops=True,
            zero_dimensional=("logit_scale", "logit_scale_finegraind", "logit_scale_hardneg"),
            unused=lambda needs: (),
            batch_flops=flops.batch_flops,
            from_scratch=_fgclip_from_scratch,
        ),
        TrainingFamily(
            base=FGCLIP2,
            images=patches,
            same_texts={kind: kind for kind in TEXT_KINDS},
            pack=_pack_full,
            has_bias=True,
            takes_crops=False,
            zero_dimensional=("logit_scale_finegraind", "logit_scale_hardneg"),
            unused=lambda needs: (
                "dense_feature_head.probe",
                *(() if "regions" in needs else ("dense_feature_head.", "boxtext_head.")),
                *(() if "bias" in needs else ("logit_bias",)),
            ),
            batch_flops=flops_fgclip2.batch_flops,
            from_scratch=_fgclip2_from_scratch,
        ),
    )
}
