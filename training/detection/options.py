"""Options of the detector's training, apart from TrainingArguments as those of the stages. Defaults are F-ViT's on OV-COCO with ViT-B/16."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from dataset_scripts.ov_coco import ClassSplit
from eval.detection.config import DetectorConfig
from training.options import RunOptions


@dataclass
class EncoderArguments:
    """The frozen encoder and the detector on it."""

    model_name_or_path: str = field(
        metadata={"help": "FG-CLIP, FG-CLIP 2, CLIP, or open_clip:NAME[:PRETRAINED] (EVA-CLIP): a folder or a Hub id."}
    )
    detector: list[str] | None = field(
        default=None,
        metadata={
            "help": "Settings of the detector as NAME=VALUE, such as image_size=896 (eval/detection/config.py)."
        },
    )

    @property
    def config(self) -> DetectorConfig:
        """Raises:
        ValueError: a setting that does not exist, or a value out of range.
        """
        values: dict[str, Any] = {}
        for text in self.detector or []:
            name, found, value = str(text).partition("=")
            if not found:
                raise ValueError(f"detector takes NAME=VALUE; received {text!r}.")
            values[name] = yaml.safe_load(value)
        hints = {one.name: one.type for one in fields(DetectorConfig)}
        for name, value in values.items():
            if name in hints and "tuple" in hints[name] and not isinstance(value, list):
                raise ValueError(f"the detector's {name} is a list, such as [3,5,7,11]; received {value!r}.")
        try:
            return DetectorConfig.from_dict(values)
        except TypeError as error:
            raise ValueError(f"a detector setting has the wrong type: {error}") from None


@dataclass
class DetectionDataArguments:
    """Boxes in COCO's format, and which classes training may see."""

    annotations: Path = field(metadata={"help": "instances_train2017.json or another file in COCO's format."})
    images: Path = field(metadata={"help": "Folder of its images."})
    classes: Path | None = field(
        default=None,
        metadata={"help": 'JSON file {"base": [names], "novel": [names]}; default: the 48 base classes of OV-COCO.'},
    )
    on_bad: str = field(
        default="raise",
        metadata={"help": "Malformed annotations: stop, or skip and count.", "choices": ["skip", "raise"]},
    )
    min_scale: float = field(default=0.1, metadata={"help": "Smallest factor of the scale jitter (F-ViT: 0.1)."})
    max_scale: float = field(default=2.0, metadata={"help": "Largest factor of the scale jitter (F-ViT: 2.0)."})
    flip: float = field(default=0.5, metadata={"help": "Probability of a horizontal flip (F-ViT: 0.5)."})

    @property
    def split(self) -> ClassSplit:
        return ClassSplit.ov_coco() if self.classes is None else ClassSplit.read(self.classes)


@dataclass
class DetectionTrainingOptions(RunOptions):
    """F-ViT's schedule: AdamW 1e-4, weight decay 0.1 on everything, 250 warm-up steps, then a
    constant rate ("do not decrease lr to avoid overfitting to base"), 3 epochs of 64 images, gradients clipped to 1.
    """

    output_dir: str = "outputs/detector"
    learning_rate: float = 1e-4
    weight_decay: float = 0.1
    warmup_steps: float = 250
    lr_scheduler_type: str = "constant_with_warmup"
    max_grad_norm: float = 1.0
    bf16: bool = field(default=True, metadata={"help": "Autocast to bfloat16; weights and losses stay in float32."})
