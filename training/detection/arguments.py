"""Arguments of the detector's training: `options`, and transformers' TrainingArguments."""

from dataclasses import dataclass

from transformers import TrainingArguments

from .options import DetectionTrainingOptions


@dataclass
class DetectionTrainingArguments(DetectionTrainingOptions, TrainingArguments):
    """TrainingArguments, with [`DetectionTrainingOptions`] over them."""

    def __post_init__(self) -> None:
        if self.fp16:
            raise ValueError("Received fp16=True; train in bfloat16 (the default) or float32 (bf16=False).")
        super().__post_init__()
        self.accelerator_config.dispatch_batches = False
