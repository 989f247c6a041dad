"""A small LLaVA on the generated sample: does a better tower answer better? By tower, with mean and deviation.

    python -m benchmarks.tiny_llava --sample outputs/quickstart/sample --output outputs/tiny_llava \\
        --towers random=outputs/quickstart/random stage1=outputs/quickstart/stage1 stage2=outputs/quickstart/stage2

A random Llama first learns to answer questions about scenes that are described in words (once for all towers). Then both
stages of LLaVA run as published, on the sample's pictures: the projector from captions, all but the tower from questions
about the color of every object and of its border. The score is the share of objects of unseen pictures whose 24 colors
are answered without a fault, beside that of the same model with the picture of another row. Finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText, AutoProcessor, LlamaForCausalLM

from benchmarks.measure import save, table
from dataset_scripts.atomic import write_json
from dataset_scripts.formats.files import read_json, read_yaml
from dataset_scripts.sample.llava import write_llava
from dataset_scripts.sample.questions import ATTRIBUTES, caption
from dataset_scripts.sample.views import View, views_of
from training.cli import RECIPES, parse_dataclasses
from training.llava.arguments import FinetuneArguments, PretrainArguments
from training.llava.build import build_llava
from training.llava.collator import LlavaCollator
from training.llava.data import finetune_example
from training.llava.options import LlavaDataArguments, LlavaModelArguments
from training.llava.scratch import conversation_texts, create_language_model
from training.llava.stages import train

KINDS = tuple(asker.__name__ for asker in ATTRIBUTES)


def conversation(view: View, rng: np.random.Generator, start: str) -> tuple[list[dict[str, str]], list[str]]:
    """The color of every object and of its border, in an order of its own, and the kind of each question."""
    asked = [(asker, thing) for thing in view.things for asker in ATTRIBUTES]
    turns, kinds = [], []
    for place in rng.permutation(len(asked)):
        asker, thing = asked[place]
        question = asker(replace(view, things=(thing,)), rng)
        turns += [{"from": "human", "value": start + question.text}, {"from": "gpt", "value": question.answer}]
        kinds.append(asker.__name__)
        start = ""
    return turns, kinds


def write_data(sample: Path, folder: Path, train: int, test: int) -> None:
    """`text.json` of described scenes, `ask.json` of pictures, and `test.json` of unseen ones."""
    write_llava(sample)
    size, seed = (json.loads((sample / "sample.json").read_text())[name] for name in ("image_size", "seed"))
    for split, count in (("train", train), ("test", test)):
        texts, rows = [], []
        for view, rng in views_of(sample, split, size, seed):
            if view.window is not None:
                continue
            said, _ = conversation(view, rng, f"{caption(view)}\n")
            texts.append({"id": len(texts), "conversations": said})
            said, kinds = conversation(view, rng, "<image>\n")
            rows.append({"image": f"{split}/images/{view.path}", "conversations": said, "kinds": kinds})
            if len(rows) == count:
                break
        if split == "train":
            write_json(folder / "text.json", texts)
        write_json(folder / ("ask.json" if split == "train" else "test.json"), rows)


def run(stage: type, recipe: str, model: Path, data: Path, images: Path, output: Path, *changes: str) -> None:
    given = ["--config", recipe, "--model_name_or_path", str(model), "--train_data", str(data), *changes]
    given += ["--image_folder", str(images), "--output_dir", str(output), "--logging_steps", "25"]
    train(*parse_dataclasses((LlavaModelArguments, LlavaDataArguments, stage), given))


def language_model(tower: Path, sample: Path, folder: Path, steps: int) -> LlamaForCausalLM:
    """A Llama that answers questions about what it has read; trained once."""
    taught = folder / "taught"
    if not (taught / "trainer_state.json").is_file():
        texts = [*conversation_texts([folder / "text.json", folder / "ask.json"])]
        create_language_model(read_yaml(RECIPES / "tiny_language_model.yaml"), texts, folder / "lm")
        model, processor = build_llava(tower, folder / "lm")
        model.save_pretrained(folder / "untaught"), processor.save_pretrained(folder / "untaught")
        changes = ("--max_steps", str(steps), "--per_device_train_batch_size", "32", "--learning_rate", "3e-3")
        run(
            FinetuneArguments,
            "tiny_llava_finetune",
            folder / "untaught",
            folder / "text.json",
            sample,
            taught,
            *changes,
        )
    whole = AutoModelForImageTextToText.from_pretrained(taught)
    model = LlamaForCausalLM(whole.config.text_config)
    model.model.load_state_dict(whole.model.language_model.state_dict())
    model.lm_head.load_state_dict(whole.lm_head.state_dict())
    return model


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--towers", nargs="+", required=True, help="NAME=CHECKPOINT …")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--text_steps", type=int, default=400, help="of the language model's own lessons")
    parser.add_argument("--pretrain_steps", type=int, default=100)
    parser.add_argument("--finetune_steps", type=int, default=200)
    arguments = parser.parse_args()
    sample, output = arguments.sample, arguments.output
    towers = dict(tower.split("=", 1) for tower in arguments.towers)
    if not (output / "test.json").is_file():
        write_data(sample, output, train=4000, test=300)
    llama = language_model(Path(next(iter(towers.values()))), sample, output, arguments.text_steps)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in towers}
    for seed in arguments.seeds:
        for name, tower in towers.items():
            folder = output / f"{name}-{seed}"
            if not (folder / "score.json").is_file():
                start = time.perf_counter()
                for part in build_llava(tower, deepcopy(llama), output / "taught", seed=seed):
                    part.save_pretrained(folder / "built")
                steps = ("--seed", str(seed), "--max_steps")
                captions, ask = sample / "llava" / "pretrain.json", output / "ask.json"
                stage1 = (PretrainArguments, "tiny_llava_pretrain", folder / "built", captions, sample)
                run(*stage1, folder / "pretrained", *steps, str(arguments.pretrain_steps))
                stage2 = (FinetuneArguments, "tiny_llava_finetune", folder / "pretrained", ask, sample)
                run(*stage2, folder / "finetuned", *steps, str(arguments.finetune_steps))
                found = score(folder / "finetuned", read_json(output / "test.json"), sample)
                write_json(folder / "score.json", found | {"minutes": (time.perf_counter() - start) / 60})
            results[name].append(read_json(folder / "score.json"))
    columns = [*KINDS, *(f"blind_{kind}" for kind in KINDS), "minutes"]
    rows = [
        {"tower": name, **{key: spread([one[key] for one in runs]) for key in columns}}
        for name, runs in results.items()
    ]
    print(table(rows))
    save(output / "results.json", {"results": results})


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    main()
