"""Open-vocabulary detection on the generated sample: AP50 of novel and base classes by encoder, with mean and deviation.

    python -m benchmarks.tiny_detection --sample outputs/quickstart/sample --output outputs/tiny_detection \\
        --encoders random=outputs/quickstart/random stage1=outputs/quickstart/stage1 stage2=outputs/quickstart/stage2

Classes are the twelve shapes of the objects, nine of them base and three novel, or their ten hues, seven and three
(`--classes hues`). The recipe is training/recipes/tiny_detection.yaml. Base AP50 says how well the detector learned; novel AP50,
how much the encoder knows. Finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import peak_memory, save, table
from dataset_scripts.paths import PUBLISHED_PREFIX
from dataset_scripts.sample.vocabulary import COLOR_NAMES, SHAPES
from eval.detection.config import DetectorConfig
from eval.runner import evaluate_model

RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "tiny_detection.yaml"
HUES = tuple(dict.fromkeys(name.split()[-1] for name in COLOR_NAMES))
# The classes, and those without boxes in training.
CLASSES = {"shapes": (SHAPES, SHAPES[1::4]), "hues": (HUES, ("orange", "turquoise", "purple"))}
# What the ensemble is set to at the test: alpha, beta.
ENSEMBLES = {"F-ViT's ensemble": (0.1, 0.8), "detector alone": (0.0, 0.0), "encoder alone": (1.0, 1.0)}


def name_of(phrase: str, classes: str) -> str | None:
    """``a dark red wooden star with a blue border`` → ``red`` or ``star``; None for a phrase that names none."""
    body = phrase.partition(" with ")[0].split()
    return next((word for word in body if word in CLASSES[classes][0]), None)


def write_instances(sample: Path, split: str, images: int, classes: str, path: Path) -> None:
    """COCO instances with shapes or hues as categories, of the first images of a split."""
    names = CLASSES[classes][0]
    records = [
        r for file in sorted((sample / split / "jsonfiles").glob("*.json")) for r in json.loads(file.read_text())
    ]
    size = json.loads((sample / "sample.json").read_text())["image_size"]
    annotations, listed = [], []
    for number, record in enumerate(records[:images], 1):
        file_name = record["f_path"].removeprefix(PUBLISHED_PREFIX)
        listed.append({"id": number, "file_name": file_name, "width": size, "height": size})
        for region in record["bbox_info"]:
            if (name := name_of(region["short_expr"], classes)) is None:
                continue
            x1, y1, x2, y2 = (value * size for value in region["bbox"][:4])
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": names.index(name) + 1, **box}
            )
    categories = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": categories}))


def run(encoder: str, data: Path, sample: Path, output: Path, seed: int, changes: list[str]) -> dict[str, Any]:
    """Trains and evaluates a detector: AP50 by ensemble and group of classes."""
    from eval.adapters import load_adapter
    from eval.detection.checkpoint import SETTINGS
    from training.cli import parse_dataclasses
    from training.detection.arguments import DetectionTrainingArguments
    from training.detection.options import DetectionDataArguments, EncoderArguments
    from training.detection.train import train

    options = {
        "config": RECIPE,
        "model_name_or_path": encoder,
        "annotations": data / "train.json",
        "images": sample / "train" / "images",
        "classes": data / "classes.json",
        "output_dir": output,
        "seed": seed,
    }
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)] + changes
    started = time.perf_counter()
    train(*parse_dataclasses((EncoderArguments, DetectionDataArguments, DetectionTrainingArguments), arguments))
    minutes = (time.perf_counter() - started) / 60
    settings = json.loads((output / SETTINGS).read_text())
    scores = {}
    for name, (base, novel) in ENSEMBLES.items():
        settings["config"] |= {"base_weight": base, "novel_weight": novel}
        (output / SETTINGS).write_text(json.dumps(settings))
        task = {"data": data, "detector": output, "annotations": "test.json", "classes": "classes.json"}
        task |= {"images": (sample / "test" / "images").resolve()}
        (result,) = evaluate_model(load_adapter(encoder), tasks={"ov_coco": task}, progress=False).values()
        scores[name] = {group: 100 * score.value for group, score in result.scores.items()}
    settings["config"] |= {name: getattr(DetectorConfig(), name) for name in ("base_weight", "novel_weight")}
    (output / SETTINGS).write_text(json.dumps(settings))
    return {"scores": scores, "minutes": minutes, "peak_gb": peak_memory()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sample", type=Path, required=True, help="folder that python -m dataset_scripts.sample wrote"
    )
    parser.add_argument("--encoders", nargs="+", required=True, metavar="NAME=CHECKPOINT")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--classes", choices=tuple(CLASSES), default="shapes")
    parser.add_argument("--train_images", type=int, default=2000)
    parser.add_argument("--test_images", type=int, default=150)
    parser.add_argument("--result", type=Path, help="JSON file for the results")
    options, changes = parser.parse_known_args()
    data = options.output / "data"
    write_instances(options.sample, "train", options.train_images, options.classes, data / "train.json")
    write_instances(options.sample, "test", options.test_images, options.classes, data / "test.json")
    names, novel = CLASSES[options.classes]
    base = [name for name in names if name not in novel]
    (data / "classes.json").write_text(json.dumps({"base": base, "novel": list(novel)}))
    rows, runs = [], {}
    for text in options.encoders:
        name, _, checkpoint = text.partition("=")
        for seed in options.seeds:
            done = options.output / f"{name}_{seed}.json"
            if not done.is_file():
                found = run(checkpoint, data, options.sample, options.output / f"{name}_{seed}", seed, changes)
                done.write_text(json.dumps(found, indent=1))
            runs[f"{name} {seed}"] = json.loads(done.read_text())
        mine = [runs[f"{name} {seed}"] for seed in options.seeds]
        for kind in ENSEMBLES:
            row = {"encoder": name, "scores": kind}
            for group in ("novel", "base", "all"):
                values = [one["scores"][kind][group] for one in mine]
                deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
                row[group] = f"{statistics.mean(values):.1f}{deviation}"
            rows.append(row)
    print(table(rows))
    save(options.result, {"rows": rows, "runs": runs})


if __name__ == "__main__":
    main()
