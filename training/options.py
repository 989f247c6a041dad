"""The options of the two stages, apart from transformers' TrainingArguments, so that help is there at once.

Defaults are the paper's (section 4.1).
"""

from dataclasses import dataclass, field

STAGE1_LOSSES = ("global",)
STAGE2_LOSSES = ("global", "regional", "hard")


@dataclass
class ModelArguments:
    model_name_or_path: str = field(
        metadata={
            "help": "FG-CLIP or CLIP checkpoint to start from: a folder or a Hub id. A CLIP's positions are stretched "
            "for long text. `python -m training.scratch` makes a small random one."
        }
    )
    revision: str | None = field(default=None, metadata={"help": "Revision of the checkpoint on the Hub."})
    attn_implementation: str | None = field(
        default=None, metadata={"help": "sdpa (default), eager or flash_attention_2."}
    )


@dataclass
class DataArguments:
    train_data: list[str] = field(
        metadata={
            "help": "Folders, globs of folders, hf:// or other URLs, or owner/name on the Hub: shards (parquet, tar) or "
            "FineHARD's published layout (jsonfiles/ and images/). Several are concatenated."
        }
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read records as they are needed instead of preparing all; the published layout needs max_steps."
        },
    )
    data_weights: list[float] | None = field(
        default=None,
        metadata={
            "help": "With --streaming: share of each source in what is drawn, in any unit. Default: all records."
        },
    )
    on_bad: str = field(
        default="skip",
        metadata={
            "help": "Damaged shards, images and annotations: count and pass over, or stop at the first one.",
            "choices": ["skip", "raise"],
        },
    )
    verify_shards: bool = field(
        default=True,
        metadata={
            "help": "Compare each shard with the SHA-256 in its manifest when a process first opens it; a file that is "
            "another one counts as damaged."
        },
    )
    max_samples: int | None = field(default=None, metadata={"help": "Use only this many records, for a trial."})
    max_regions: int = field(default=4, metadata={"help": "Regions taken from an image (published: 4)."})
    short_caption_prefix: str = field(
        default="a photo of ", metadata={"help": "Put before short captions (published: 'a photo of ')."}
    )
    flip: float = field(
        default=0.0, metadata={"help": "Probability of a horizontal flip; never where texts mention left or right."}
    )
    min_crop: float = field(
        default=1.0, metadata={"help": "Smallest share of a side that a random crop keeps; 1 means no crops."}
    )
    long_subset: float = field(
        default=0.0,
        metadata={
            "help": "Probability that a long caption made of independent sentences is some of them in another order."
        },
    )
    short_from_long: float = field(
        default=0.0,
        metadata={"help": "Probability that a random sentence of the long caption stands in for the short one."},
    )

    def __post_init__(self) -> None:
        if self.streaming and self.max_samples:
            raise ValueError("Received max_samples with streaming; a stream is cut by max_steps.")
        if self.on_bad not in ("skip", "raise"):
            raise ValueError(f"on_bad is 'skip' or 'raise', got {self.on_bad!r}.")
        if self.data_weights and not self.streaming:
            raise ValueError("Received data_weights without streaming; a map-style set holds every record once.")


@dataclass
class RunOptions:
    """What every trainer here sets, with its own defaults, and how a run begins: it resumes from the newest good checkpoint
    of output_dir. No columns are removed, non-finite losses are not filtered, at most 2 checkpoints are kept.
    """

    output_dir: str = field(default="outputs", metadata={"help": "Folder for checkpoints and the finished model."})
    per_device_train_batch_size: int = field(
        default=8, metadata={"help": "Images, or rows of LLaVA, a device and step."}
    )
    learning_rate: float = field(default=5e-5, metadata={"help": "AdamW's, after the warm-up."})
    weight_decay: float = field(default=0.0, metadata={"help": "AdamW's."})
    warmup_steps: float = field(default=0, metadata={"help": "Steps, or below 1 a share of all, to the full rate."})
    num_train_epochs: float = field(default=3.0, metadata={"help": "Times through the data."})
    max_steps: int = field(default=-1, metadata={"help": "Steps instead of epochs, where above 0."})
    seed: int = field(default=42, metadata={"help": "Of everything random."})
    lr_scheduler_type: str = "cosine"
    dataloader_drop_last: bool = True
    remove_unused_columns: bool = False
    logging_steps: float = 10
    logging_nan_inf_filter: bool = False
    save_total_limit: int | None = 2
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Delete the checkpoints in output_dir and start anew instead of resuming."}
    )


@dataclass
class TrainingOptions(RunOptions):
    """FG-CLIP's own settings, and other defaults than TrainingArguments': adam_beta2 0.98, bf16, tf32 where the GPU has it,
    a cosine schedule. torch_compile compiles the encoders' blocks (training/efficiency/compiling.py).
    """

    adam_beta2: float = 0.98
    bf16: bool = field(default=True, metadata={"help": "Autocast to bfloat16; weights and losses stay in float32."})

    losses: list[str] = field(
        default_factory=lambda: list(STAGE1_LOSSES),
        metadata={
            "help": "What is minimized, as NAME or NAME=WEIGHT. regional is alpha of equation 5 (0.1), hard its beta (0.5); "
            "an unknown name lists them all."
        },
    )
    regional_negatives: str = field(
        default="all",
        metadata={
            "help": "Negatives of a region: of all ranks, or as published of its own.",
            "choices": ["all", "rank"],
        },
    )
    mask_duplicates: bool = field(
        default=False,
        metadata={
            "help": "Captions of equal pictures, and equal captions or phrases, are no negatives of each other."
        },
    )
    gradient_caching: bool = field(
        default=False,
        metadata={
            "help": "Make one contrastive batch of all gradient_accumulation_steps batches of all ranks, at the memory "
            "of one and a third more computation (GradCache). Gradients equal those of the large batch."
        },
    )
    selective_activation_checkpointing: bool = field(
        default=False,
        metadata={
            "help": "Keep attention and the narrow matrix products of each block for the backward pass and compute the rest "
            "again: a third of the activations for a ninth more work. gradient_checkpointing keeps less for a third more."
        },
    )
    optimizer_in_backward: bool = field(
        default=False,
        metadata={
            "help": "Update each weight as soon as its gradient is there and free the gradient, which saves as much memory "
            "as the weights take. One process, without accumulation, and with max_grad_norm 0."
        },
    )
    text_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the text encoder, where it differs from the rest."}
    )
    init_temperature: float | None = field(
        default=None, metadata={"help": "Start all temperatures here instead of at the checkpoint's (stage 1: 0.07)."}
    )
    max_scale: float = field(
        default=100.0, metadata={"help": "Largest inverse temperature, as in CLIP; temperatures are clamped to it."}
    )
    ema_decay: float | None = field(
        default=None,
        metadata={
            "help": "Keep an average of the weights, such as 0.9998, saved as ema/ in each checkpoint. DDP at most."
        },
    )
    lora_rank: int | None = field(
        default=None, metadata={"help": "Train LoRA adapters of this rank instead of the weights; saved merged."}
    )
    lora_alpha: float = field(default=32.0, metadata={"help": "Scale of the adapters, over their rank."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout of the adapters' input."})
    eval_tasks: list[str] | None = field(
        default=None,
        metadata={"help": "Tasks of `python -m eval --list_tasks` to run while training, as --eval_strategy says."},
    )
    eval_data: str = field(default=".", metadata={"help": "Folder below which the tasks look for their files."})
    eval_task_options: list[str] | None = field(
        default=None, metadata={"help": "TASK.OPTION=VALUE, such as retrieval.root=test retrieval.limit=500."}
    )
    peak_tflops: float | None = field(
        default=None,
        metadata={"help": "Of one device, for the log's mfu; known for common GPUs (training/planning/devices.py)."},
    )


@dataclass
class Stage1Options(TrainingOptions):
    """Stage 1 (section 4.1): the global loss on long and short captions, one epoch; temperatures start at 0.07."""

    init_temperature: float | None = 0.07
    output_dir: str = "outputs/stage1"
    per_device_train_batch_size: int = 384
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    warmup_steps: float = 200
    num_train_epochs: float = 1


@dataclass
class Stage2Options(TrainingOptions):
    """Stage 2 (section 4.1): global, regional and hard-negative losses, one epoch."""

    output_dir: str = "outputs/stage2"
    per_device_train_batch_size: int = 512
    learning_rate: float = 1e-6
    weight_decay: float = 0.001
    warmup_steps: float = 50
    num_train_epochs: float = 1
    losses: list[str] = field(default_factory=lambda: list(STAGE2_LOSSES))
