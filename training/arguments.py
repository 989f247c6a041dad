"""Arguments of the two stages. Defaults are the paper's (section 4.1); what differs from TrainingArguments is listed."""

from dataclasses import dataclass, field

from transformers import TrainingArguments
from transformers.utils import is_torch_tf32_available

from .losses import TERMS
from .objective import Objective, parse_losses

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
class FGCLIPTrainingArguments(TrainingArguments):
    """TrainingArguments with other defaults, and FG-CLIP's own settings.

    Other defaults: adam_beta2 0.98, bf16, tf32 where the GPU has it, dataloader_drop_last, cosine schedule, logging every
    10 steps, no removal of columns, non-finite losses are not filtered, at most 2 checkpoints kept. A run resumes from
    the newest good checkpoint of output_dir; torch_compile compiles the encoders' blocks (training/efficiency/compiling.py).
    """

    adam_beta2: float = 0.98
    lr_scheduler_type: str = "cosine"
    dataloader_drop_last: bool = True
    remove_unused_columns: bool = False
    logging_steps: float = 10
    logging_nan_inf_filter: bool = False
    save_total_limit: int | None = 2
    bf16: bool = field(default=True, metadata={"help": "Autocast to bfloat16; weights and losses stay in float32."})

    losses: list[str] = field(
        default_factory=lambda: list(STAGE1_LOSSES),
        metadata={
            "help": "What is minimized, as NAME or NAME=WEIGHT: "
            + ", ".join(f"{term.name}={term.weight:g}" for term in TERMS.values())
            + ". regional is alpha of equation 5, hard its beta."
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
    selective_checkpointing: bool = field(
        default=False,
        metadata={
            "help": "Keep attention and the narrow matrix products of each block for the backward pass and compute the rest "
            "again: a third of the activations for a ninth more work. gradient_checkpointing keeps less for a third more."
        },
    )
    step_in_backward: bool = field(
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
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Delete the checkpoints in output_dir and start anew instead of resuming."}
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

    def __post_init__(self) -> None:
        if self.fp16:
            raise ValueError(
                "Received fp16=True. FG-CLIP trains in bfloat16 or float32: with fp16 the temperatures and the "
                "log-sum-exps of large batches overflow. Use bf16=True (the default) or bf16=False for float32."
            )
        parse_losses(self.losses)
        if self.regional_negatives not in ("all", "rank"):
            raise ValueError(f"regional_negatives is 'all' or 'rank', got {self.regional_negatives!r}.")
        if self.init_temperature is not None and not 1 / self.max_scale <= self.init_temperature <= 1:
            raise ValueError(
                f"init_temperature must lie in [1 / max_scale, 1] = [{1 / self.max_scale:g}, 1], "
                f"got {self.init_temperature}."
            )
        if self.auto_find_batch_size:
            raise ValueError(
                "Received auto_find_batch_size, which would change the contrastive batch, and so the loss, without a "
                "word. Lower per_device_train_batch_size and make up for it with gradient_accumulation_steps and "
                "gradient_caching."
            )
        if self.selective_checkpointing and self.gradient_checkpointing:
            raise ValueError("Received selective_checkpointing and gradient_checkpointing; choose one of them.")
        if self.step_in_backward and (self.max_grad_norm or self.gradient_accumulation_steps > 1):
            raise ValueError(
                f"step_in_backward holds one gradient at a time: it can neither clip them by their norm nor accumulate "
                f"them. Received max_grad_norm={self.max_grad_norm} and gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps}; set them to 0 and 1."
            )
        if self.max_scale <= 1:
            raise ValueError(f"max_scale must be above 1 (a temperature below 1), got {self.max_scale}.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie between 0 and 1, such as 0.9998; got {self.ema_decay}.")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"lora_rank must be at least 1, got {self.lora_rank}.")
        if self.tf32 is None and not self.use_cpu and is_torch_tf32_available():
            self.tf32 = True
        # Trainer and accelerate would compile the whole model, and anew for every batch of packed texts. They look at these
        # options, and at environment variables that TrainingArguments makes of them.
        compiles = self.torch_compile or self.torch_compile_backend or self.torch_compile_mode
        settings = {"backend": self.torch_compile_backend or "inductor", "mode": self.torch_compile_mode}
        self.compile_settings = settings if compiles else None
        self.torch_compile, self.torch_compile_backend, self.torch_compile_mode = False, None, None
        super().__post_init__()
        # By default accelerate reads on the first process and cuts batches up, which would tear flat region rows apart.
        self.accelerator_config.dispatch_batches = False

    @property
    def objective(self) -> Objective:
        """Made anew: terms with a state begin it."""
        return Objective(parse_losses(self.losses), self.regional_negatives == "all", self.mask_duplicates)


@dataclass
class Stage1Arguments(FGCLIPTrainingArguments):
    """Stage 1 (section 4.1): the global loss on long and short captions, one epoch; temperatures start at 0.07."""

    init_temperature: float | None = 0.07
    output_dir: str = "outputs/stage1"
    per_device_train_batch_size: int = 384
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    warmup_steps: float = 200
    num_train_epochs: float = 1


@dataclass
class Stage2Arguments(FGCLIPTrainingArguments):
    """Stage 2 (section 4.1): global, regional and hard-negative losses, one epoch."""

    output_dir: str = "outputs/stage2"
    per_device_train_batch_size: int = 512
    learning_rate: float = 1e-6
    weight_decay: float = 0.001
    warmup_steps: float = 50
    num_train_epochs: float = 1
    losses: list[str] = field(default_factory=lambda: list(STAGE2_LOSSES))
