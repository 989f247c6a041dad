"""Trains the open-vocabulary detector on a frozen encoder (paper, table 3).

accelerate launch training/detection/train.py --config training/recipes/ov_coco_b16.yaml --model_name_or_path CHECKPOINT \
    --annotations annotations/instances_train2017.json --images train2017

A run that was stopped continues when the same command is given again. `python -m eval --tasks ov_coco` measures AP50.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # started as a file: the checkout is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fgclip.command_line import run_command
from training.detection.options import DetectionDataArguments, DetectionTrainingOptions, EncoderArguments
from training.help import show_help

if TYPE_CHECKING:
    from training.detection.arguments import DetectionTrainingArguments
    from training.detection.trainer import DetectionTrainer

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: parse and train."""
    options = {"detector": EncoderArguments, "data": DetectionDataArguments, "training": DetectionTrainingOptions}
    show_help(options, arguments, __doc__)
    from training.cli import parse_dataclasses
    from training.detection.arguments import DetectionTrainingArguments

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    train(
        *parse_dataclasses((EncoderArguments, DetectionDataArguments, DetectionTrainingArguments), arguments, __doc__)
    )


def train(
    encoder: EncoderArguments, data: DetectionDataArguments, arguments: DetectionTrainingArguments
) -> DetectionTrainer:
    """Trains a detector and saves it in `output_dir`, which no other run may use meanwhile."""
    from eval.detection.requirements import require_torchvision
    from eval.locking import writing_together

    require_torchvision()
    arguments.device  # noqa: B018  sets up the processes
    with writing_together(arguments.output_dir):
        return _train(encoder, data, arguments)


def _train(
    encoder: EncoderArguments, data: DetectionDataArguments, arguments: DetectionTrainingArguments
) -> DetectionTrainer:
    from transformers import set_seed

    from dataset_scripts.ov_coco import read_detection
    from eval.adapters import load_adapter
    from eval.detection.detector import OpenVocabularyDetector
    from eval.detection.vocabulary import Vocabulary
    from eval.embed import Embedder
    from training.checkpointing.resuming import checkpoint_to_resume
    from training.checkpointing.saving import save_finished
    from training.detection.augmentation import DetectionAugmentation
    from training.detection.data import DetectionExamples, check_base_boxes
    from training.detection.trainer import DetectionTrainer

    config, base = encoder.config, list(data.split.base)
    boxes = read_detection(data.annotations, data.split.base, data.on_bad)
    check_base_boxes(boxes)
    augmentation = DetectionAugmentation(config.image_size, data.min_scale, data.max_scale, data.flip)
    examples = DetectionExamples(boxes, data.images, augmentation, arguments.seed)
    left_out = ", ".join(f"{count} {reason}" for reason, count in boxes.left_out.items() if count)
    logger.info(
        "Training on %d images with boxes of %d base classes%s",
        len(examples),
        len(base),
        f" ({left_out})" * bool(left_out),
    )
    set_seed(arguments.seed)  # the detector's new weights
    adapter = load_adapter(encoder.model_name_or_path)
    embedder = Embedder(adapter, distributed=False, progress=False)
    detector = OpenVocabularyDetector(adapter, Vocabulary.of(base, embedder, base), config)
    checkpoint = checkpoint_to_resume(arguments)
    trainer = DetectionTrainer(detector, arguments, examples, encoder.model_name_or_path)
    with trainer.stop.listening():
        trainer.train(resume_from_checkpoint=checkpoint)
        save_finished(trainer)
    trainer.accelerator.end_training()
    return trainer


if __name__ == "__main__":
    run_command(main)
