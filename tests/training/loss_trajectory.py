"""Thirty steps of stage 2 on a small generated sample, from random weights, in float32.

python -m tests.training.loss_trajectory  writes tests/fixtures/loss_trajectory.json anew: after a change that is meant
to change the losses, the generated sample or the recipes, and with the reason in the commit.
"""

import json
import tempfile
from pathlib import Path

import yaml

from dataset_scripts.sample import generate_sample
from tests.training.runs import history, run
from training.data.sources import load_records
from training.random_checkpoint import create_checkpoint, texts_of

FILE = Path(__file__).parents[1] / "fixtures" / "loss_trajectory.json"
RECIPES = Path(__file__).parents[2] / "training" / "recipes"
PARTS = ("loss", "loss_global", "loss_regional", "loss_hard", "grad_norm")


def trajectory(folder: Path) -> list[dict[str, float]]:
    """The loss of each step, its parts and the gradient norm."""
    generate_sample(folder / "sample", seed=0, train=128, test=4)
    data, start, output = folder / "sample" / "train", folder / "start", folder / "output"
    settings = yaml.safe_load((RECIPES / "tiny_model.yaml").read_text())
    create_checkpoint(settings, texts_of(load_records([str(data)])), start)
    options = {
        "config": RECIPES / "tiny_stage2.yaml",
        "model_name_or_path": start,
        "train_data": data,
        "output_dir": output,
        "per_device_train_batch_size": 16,
        "learning_rate": 5e-4,
        "warmup_steps": 5,
        "max_steps": 30,
        "logging_steps": 1,
        "bf16": False,
        "disable_tqdm": True,
    }
    run([str(part) for name, value in options.items() for part in (f"--{name}", value)])
    return [{name: entry[name] for name in PARTS} for entry in history(output)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        steps = trajectory(Path(folder))
    FILE.write_text(json.dumps([{name: round(v, 6) for name, v in step.items()} for step in steps], indent=1) + "\n")
    print(f"Wrote {len(steps)} steps to {FILE}: loss {steps[0]['loss']:.4f} to {steps[-1]['loss']:.4f}")


if __name__ == "__main__":
    main()
