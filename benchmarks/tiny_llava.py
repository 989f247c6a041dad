"""A small LLaVA on the generated sample: does a better tower answer better? By tower, with mean and deviation.

    python -m benchmarks.tiny_llava --quickstarts outputs/quickstart outputs/quickstart-1 outputs/quickstart-2 \\
        --output outputs/tiny_llava

Each quickstart (its `--seed` 0, 1, 2) gives a sample and three towers: random, stage1, stage2. A random Llama of three
layers and a random projector, the same for the three, learn to answer by LLaVA's second stage, the tower frozen; the first
stage has no use where the language model knows no words yet. Asked are the color, of 24, of every object and of its
border, the object being named by its shape: first on scenes of which one object is left (`alone`), then on whole ones
(`whole`), since a model of this size learns in minutes to find an object among several only if it can read one already.
The score is the share of questions about unseen pictures that are answered without a fault, beside that of the same model
with the picture of another row. Finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText, AutoProcessor

from benchmarks.measure import save, table
from dataset_scripts.atomic import write_json
from dataset_scripts.formats.files import read_json
from dataset_scripts.sample.questions import ATTRIBUTES
from dataset_scripts.sample.views import View, views_of
from dataset_scripts.sample.vocabulary import Split
from dataset_scripts.sample.write import SETTINGS_FILE, SampleSettings
from modeling_fgclip.pixels import to_rgb
from training.cli import parse_dataclasses
from training.llava.arguments import FinetuneArguments
from training.llava.build import build_llava
from training.llava.collator import LlavaCollator
from training.llava.data import finetune_example
from training.llava.options import LlavaDataArguments, LlavaModelArguments
from training.llava.scratch import conversation_texts, create_language_model
from training.llava.stages import train

TOWERS = ("random", "stage1", "stage2")
KINDS = tuple(asker.__name__ for asker in ATTRIBUTES)
ALONE = 3000  # scenes, of two to four objects, each of which gets a picture of its own
# Steps and rows a step of both lessons: as many tokens a step.
LESSONS = {"alone": (160, 64), "whole": (160, 32)}
# Small, since all of it learns in minutes. Words find patches by what they show, wherever these lie: positions turn slowly.
LANGUAGE_MODEL = {
    "vocab_size": 700,
    "hidden_size": 96,
    "intermediate_size": 288,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
    "initializer_range": 0.05,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
}


def alone(picture: Image.Image, place: str) -> Image.Image:
    """A scene without the objects of the other quadrants: they are painted over with the color of its middle."""
    half = picture.width // 2
    left, top = half * ("right" in place), half * ("bottom" in place)
    canvas = Image.new("RGB", picture.size, picture.getpixel((half, half)))
    canvas.paste(picture.crop((left, top, left + half, top + half)), (left, top))
    return canvas


def row(name: str, view: View, rng: np.random.Generator) -> dict[str, Any]:
    """The color of every object and of its border, in a random order, and the kind of each question."""
    asked = [(asker, thing) for thing in view.things for asker in ATTRIBUTES]
    questions = []
    for place in rng.permutation(len(asked)):
        asker, thing = asked[place]
        questions.append(asker(replace(view, things=(thing,)), rng))
    said = [
        {"from": who, "value": text} for one in questions for who, text in (("human", one.text), ("gpt", one.answer))
    ]
    said[0]["value"] = f"<image>\n{said[0]['value']}"
    return {"image": name, "conversations": said, "kinds": [one.detailed for one in questions]}


def write_data(sample: Path, folder: Path) -> None:
    """`alone.json` and `whole.json` to learn from, `alone_test.json` and `whole_test.json` of unseen scenes, and pictures."""
    settings = SampleSettings(**read_json(sample / SETTINGS_FILE))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sample").unlink(missing_ok=True)
    (folder / "sample").symlink_to(sample.absolute())
    splits: tuple[tuple[Split, str], ...] = (("train", ""), ("test", "_test"))
    for split, ending in splits:
        one: list[dict[str, Any]] = []
        whole: list[dict[str, Any]] = []
        for view, rng in views_of(sample, split, settings.image_size, settings.seed):
            if view.window is not None:
                continue
            path = f"sample/{split}/images/{view.path}"
            whole.append(row(path, view, rng))
            if len(whole) > ALONE:
                continue
            picture = to_rgb(folder / path)
            for thing in view.things:
                name = f"{split}/{view.index // 1000}/{len(one)}.png"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                alone(picture, thing.place).save(folder / name)
                one.append(row(name, replace(view, things=(thing,)), rng))
        write_json(folder / f"alone{ending}.json", one)
        write_json(folder / f"whole{ending}.json", whole)


def finetune(model: Path, data: Path, output: Path, seed: int, steps: int, rows: int) -> None:
    given = ["--config", "tiny_llava_finetune", "--model_name_or_path", str(model), "--train_data", str(data)]
    given += ["--image_folder", str(data.parent), "--output_dir", str(output), "--seed", str(seed)]
    given += ["--per_device_train_batch_size", str(rows), "--learning_rate", "2e-3", "--adam_beta2", "0.99"]
    given += ["--max_steps", str(steps), "--logging_steps", "20"]
    train(*parse_dataclasses((LlavaModelArguments, LlavaDataArguments, FinetuneArguments), given))


@torch.no_grad()
def score(folder: Path, rows: list[dict[str, Any]], images: Path) -> dict[str, float]:
    """Share of answers whose every token, and end, is the likeliest one; with the rows' pictures and with others'.

    That is when greedy generation gives the answer, in a conversation so far.
    """
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    others = [{**row, "image": rows[(place + 1) % len(rows)]["image"]} for place, row in enumerate(rows)]
    result = {}
    for name, asked in (("", rows), ("blind_", others)):
        right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        collate = LlavaCollator(processor, images, None, completions=False)
        kinds = iter([row["kinds"] for row in asked])
        for batch in DataLoader([finetune_example(row) for row in asked], 20, collate_fn=collate):
            labels = batch.pop("labels")[:, 1:]
            guessed = model(**batch).logits[:, :-1].argmax(-1)
            for learned, hit in zip(labels != -100, guessed == labels, strict=True):
                ends = torch.nonzero(learned & ~torch.nn.functional.pad(learned[1:], (0, 1))).flatten() + 1
                hits = [
                    part[seen].all().item()
                    for part, seen in zip(hit.tensor_split(ends), learned.tensor_split(ends), strict=True)
                ]
                for kind, one in zip(next(kinds), hits[:-1], strict=True):
                    right[kind].append(one)
        result |= {f"{name}{kind}": 100 * sum(hits) / len(hits) for kind, hits in right.items()}
    return result


def run(quickstart: Path, tower: str, lesson: str, folder: Path, seed: int) -> None:
    """Teaches one lesson, the second one after the first, and scores it."""
    if not (folder / "lm").is_dir():
        write_data(quickstart / "sample", folder)
        create_language_model(dict(LANGUAGE_MODEL), conversation_texts([folder / "whole.json"]), folder / "lm", seed)
    start, used, model = time.perf_counter(), time.process_time(), folder / tower / "alone"
    if lesson == "alone":
        model = folder / tower / "built"
        for part in build_llava(quickstart / tower, folder / "lm", seed=seed):
            part.save_pretrained(model)
    finetune(model, folder / f"{lesson}.json", folder / tower / lesson, seed, *LESSONS[lesson])
    found = score(folder / tower / lesson, read_json(folder / f"{lesson}_test.json"), folder)
    found |= {"minutes": (time.perf_counter() - start) / 60, "processor_minutes": (time.process_time() - used) / 60}
    write_json(folder / tower / lesson / "score.json", found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quickstarts", type=Path, nargs="+", required=True, help="of different seeds")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--towers", nargs="+", default=TOWERS)
    arguments = parser.parse_args()
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for lesson in LESSONS:
        results[lesson] = {tower: [] for tower in arguments.towers}
        for quickstart in arguments.quickstarts:
            seed = SampleSettings(**read_json(quickstart / "sample" / SETTINGS_FILE)).seed
            for tower in arguments.towers:
                folder = arguments.output / str(seed)
                if not (folder / tower / lesson / "score.json").is_file():
                    run(quickstart, tower, lesson, folder, seed)
                results[lesson][tower].append(read_json(folder / tower / lesson / "score.json"))
    rows = [
        {"pictures": lesson, "tower": tower, **{key: spread([one[key] for one in runs]) for key in runs[0]}}
        for lesson, towers in results.items()
        for tower, runs in towers.items()
    ]
    print(table(rows))
    save(arguments.output / "results.json", {"lessons": LESSONS, "results": results})


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    main()
