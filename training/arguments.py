"""Arguments of the two stages: `options`, and transformers' TrainingArguments."""

from dataclasses import dataclass

from transformers import TrainingArguments
from transformers.utils import is_torch_tf32_available

from dataset_scripts.progress import shows_bars

from .objective import Objective, parse_losses
from .options import Stage1Options, Stage2Options, TrainingOptions


@dataclass
class FGCLIPTrainingArguments(TrainingOptions, TrainingArguments):
    """TrainingArguments, with [`TrainingOptions`] over them."""

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
        if self.selective_activation_checkpointing and self.gradient_checkpointing:
            raise ValueError("Received selective_activation_checkpointing and gradient_checkpointing; choose one.")
        if self.optimizer_in_backward and (self.max_grad_norm or self.gradient_accumulation_steps > 1):
            raise ValueError(
                f"optimizer_in_backward holds one gradient at a time: it can neither clip them by their norm nor accumulate "
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
        if self.disable_tqdm is None and not shows_bars():
            self.disable_tqdm = True  # in a file, a line of losses at each logging step
        super().__post_init__()
        # By default accelerate reads on the first process and cuts batches up, which would tear flat region rows apart.
        self.accelerator_config.dispatch_batches = False

    @property
    def objective(self) -> Objective:
        """Made anew: terms with a state begin it."""
        return Objective(parse_losses(self.losses), self.regional_negatives == "all", self.mask_duplicates)


@dataclass
class Stage1Arguments(Stage1Options, FGCLIPTrainingArguments):
    __doc__ = Stage1Options.__doc__


@dataclass
class Stage2Arguments(Stage2Options, FGCLIPTrainingArguments):
    __doc__ = Stage2Options.__doc__
