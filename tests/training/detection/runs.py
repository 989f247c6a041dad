"""Runs of the detector's training in processes of their own. python -m tests.training.detection.runs OUTPUT ARGUMENTS…"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import TrainerCallback

DETECTOR = [
    "image_size=64",
    "taps=[0,1,2,3]",
    "channels=16",
    "norm=group",
    "head_convs=1",
    "rpn_samples=8",
    "roi_samples=8",
    "roi_base=16",
    "roi_positive_share=0.0",
    "rpn_positive_share=0.0",
]


def write_data(folder: Path, images: int = 8) -> None:
    """Bright rectangles on noise, of a base and a novel class, in COCO's format."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}
    for number in range(images):
        pixels = rng.integers(0, 80, (48, 64, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(2, 20, 2))
        pixels[y : y + 20, x : x + 30] = 230
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
        for label, box in ((1, [x, y, 30, 20]), (2, [0, 0, 10, 10])):
            entry = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": label, "bbox": box}
            content["annotations"].append(entry)
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "classes.json").write_text(json.dumps({"base": ["cat"], "novel": ["dog"]}))


class _Kill(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """With FIRST_SAMPLES, sampling takes the first candidates, so that it does not depend on the process."""
    kill_at = int(os.environ.get("KILL_AT", "0"))
    if os.environ.get("FIRST_SAMPLES"):
        torch.randperm = lambda n, **settings: torch.arange(n, device=settings.get("device"))
    torch.set_num_threads(1)
    from training.cli import parse_dataclasses
    from training.detection import train as module
    from training.detection.arguments import DetectionTrainingArguments
    from training.detection.options import DetectionDataArguments, EncoderArguments
    from training.detection.trainer import DetectionTrainer

    if kill_at:
        setup = DetectionTrainer.__init__

        def with_kill(self, *arguments, **settings):
            setup(self, *arguments, **settings)
            self.add_callback(_Kill(kill_at))

        DetectionTrainer.__init__ = with_kill
    types = (EncoderArguments, DetectionDataArguments, DetectionTrainingArguments)
    module.train(*parse_dataclasses(types, sys.argv[1:]))


if __name__ == "__main__":
    main()
