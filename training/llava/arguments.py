"""Arguments of LLaVA's two stages: `options`, and trl's SFTConfig."""

from dataclasses import dataclass

from modeling_fgclip.extras import missing_extra

try:
    from trl import SFTConfig
except ImportError as error:
    raise ImportError(missing_extra("Training LLaVA needs trl", "llava")) from error

from .options import FinetuneOptions, LlavaOptions, PretrainOptions


@dataclass
class LlavaTrainingArguments(LlavaOptions, SFTConfig):
    """trl's SFTConfig, with [`LlavaOptions`] over it."""

    # Not options: what a stage learns.
    lora_rank = None
    projector_learning_rate = None

    def __post_init__(self) -> None:
        if self.fp16:
            raise ValueError("Received fp16=True; train in bfloat16 (the default) or float32 (bf16=False).")
        if self.packing or self.padding_free:
            raise ValueError("Received packing or padding_free, which trl does not have for images.")
        super().__post_init__()
        self.accelerator_config.dispatch_batches = False


@dataclass
class PretrainArguments(PretrainOptions, LlavaTrainingArguments):
    __doc__ = PretrainOptions.__doc__


@dataclass
class FinetuneArguments(FinetuneOptions, LlavaTrainingArguments):
    __doc__ = FinetuneOptions.__doc__

    def __post_init__(self) -> None:
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"lora_rank must be at least 1, got {self.lora_rank}.")
        if self.lora_targets == "all-linear":
            raise ValueError(
                "Received lora_targets=all-linear, which would adapt the frozen encoder and the projector too. Leave it "
                "out for every matrix of the language model, or give a regular expression of module names."
            )
        super().__post_init__()
