"""Options of LLaVA's two stages, apart from trl's SFTConfig, so that help is there at once.

Defaults are LLaVA-1.5's for Vicuna 7B (scripts/v1_5 of haotian-liu/LLaVA).
"""

from dataclasses import dataclass, field
from pathlib import Path

from training.options import RunOptions

# Every matrix of the language model but its head; "all-linear" would adapt the encoder and the projector as well.
LORA_TARGETS = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@dataclass
class LlavaModelArguments:
    model_name_or_path: str = field(
        metadata={"help": "Folder that `fgclip llava build` or the stage before wrote, or any LLaVA-1.5 on the Hub."}
    )
    dtype: str = field(
        default="float32",
        metadata={
            "help": "Of frozen weights; those that learn are float32, or with DeepSpeed, which keeps float32 copies of its "
            "own, of this type.",
            "choices": ["float32", "bfloat16"],
        },
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "sdpa (default), eager or flash_attention_2."}
    )


@dataclass
class LlavaDataArguments:
    train_data: list[Path] = field(metadata={"help": "Files of LLaVA's JSON (or JSON lines), one after the other."})
    image_folder: Path = field(metadata={"help": "Folder to which the images in them are relative."})
    on_bad: str = field(
        default="raise",
        metadata={
            "help": "Bad rows, and rows whose image is missing: stop, or count and pass over.",
            "choices": ["raise", "skip"],
        },
    )


@dataclass
class LlavaOptions(RunOptions):
    """LLaVA's own settings and other defaults than trl's."""

    learning_rate: float = 2e-5
    warmup_steps: float = 0.03
    num_train_epochs: float = 1
    max_length: int | None = field(
        default=2048, metadata={"help": "Tokens of a row, with those of its image; what is longer is cut."}
    )


@dataclass
class PretrainOptions(LlavaOptions):
    """Stage 1: the projector alone learns, from captions."""

    output_dir: str = "outputs/llava_pretrain"
    per_device_train_batch_size: int = 32
    learning_rate: float = 1e-3


@dataclass
class FinetuneOptions(LlavaOptions):
    """Stage 2: projector and language model learn from conversations; with lora_rank, projector and adapters."""

    output_dir: str = "outputs/llava"
    per_device_train_batch_size: int = 16
    learning_rate: float = 2e-5
    projector_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the projector, where it differs (LLaVA with LoRA: 2e-5 beside 2e-4)."}
    )
    lora_rank: int | None = field(
        default=None, metadata={"help": "Train LoRA adapters of this rank (LLaVA: 128) instead of the language model."}
    )
    lora_alpha: float = field(default=256.0, metadata={"help": "Scale of the adapters, over their rank."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout of the adapters' input."})
    lora_targets: str = field(
        default=LORA_TARGETS, metadata={"help": "Regular expression of the names of the matrices that are adapted."}
    )
