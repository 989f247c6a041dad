"""Arguments of the detector's training: `options`, and transformers' TrainingArguments."""

from dataclasses import dataclass

from transformers import TrainingArguments

from dataset_scripts.progress import shows_bars

from .options import DetectionTrainingOptions


@dataclass
class DetectionTrainingArguments(DetectionTrainingOptions, TrainingArguments):
    """TrainingArguments, with [`DetectionTrainingOptions`] over them."""

    def __post_init__(self) -> None:
        if self.fp16:
            raise ValueError("Received fp16=True; train in bfloat16 (the default) or float32 (bf16=False).")
        if self.disable_tqdm is None and not shows_bars():
            self.disable_tqdm = True
        super().__post_init__()
        self.accelerator_config.dispatch_batches = False
