"""Options of LLaVA's two stages, apart from trl's SFTConfig, so that help is there at once.

Defaults are LLaVA-1.5's for Vicuna 7B (scripts/v1_5 of haotian-liu/LLaVA).
"""

from dataclasses import dataclass, field
from pathlib import Path

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
class LlavaOptions:
    """LLaVA's own settings, other defaults than trl's, and what every run sets. A run resumes from the newest good checkpoint of output_dir."""

    output_dir: str = field(default="outputs", metadata={"help": "Folder for checkpoints and the finished model."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Rows a device and step."})
    learning_rate: float = field(default=2e-5, metadata={"help": "AdamW's, after the warm-up."})
    max_steps: int = field(default=-1, metadata={"help": "Steps instead of epochs, where above 0."})
    seed: int = field(default=42, metadata={"help": "Of everything random."})
    weight_decay: float = 0.0
    warmup_steps: float = field(default=0.03, metadata={"help": "Steps, or below 1 a share of all, to the full rate."})
    lr_scheduler_type: str = "cosine"
    num_train_epochs: float = field(default=1, metadata={"help": "Times through the data."})
    max_length: int | None = field(
        default=2048, metadata={"help": "Tokens of a row, with those of its image; what is longer is cut."}
    )
    dataloader_drop_last: bool = True
    remove_unused_columns: bool = False
    logging_steps: float = 10
    logging_nan_inf_filter: bool = False
    save_total_limit: int | None = 2
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Delete the checkpoints in output_dir and start anew instead of resuming."}
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
