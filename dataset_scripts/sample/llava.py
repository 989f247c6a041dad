"""Writes LLaVA's training data and its four benchmarks from a generated sample, each in its official layout.

    SAMPLE/llava/pretrain.json, instruct.json   LLaVA's JSON; "image" is relative to SAMPLE
    SAMPLE/llava/images/                        the pictures that are not square: a third of the training images
    SAMPLE/llava/eval/gqa/                      testdev_balanced_questions.json, images/
    SAMPLE/llava/eval/pope/                     coco_pope_random.json, _popular, _adversarial; val2014/
    SAMPLE/llava/eval/refcoco/                  refcoco_val.jsonl, …, refcocog_test.jsonl; train2014/
    SAMPLE/llava/eval/mmbench/                  mmbench_dev_en_20231003.tsv, …

The benchmarks ask about the test split alone.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset_scripts.atomic import write_json
from dataset_scripts.formats.files import read_json
from dataset_scripts.formats.llava import (
    DESCRIBE,
    LOCATE,
    OPTION_LETTER,
    OPTIONS,
    SHORT_ANSWER,
    box_text,
    into_square,
    options_text,
)
from dataset_scripts.locking import replacing_folder
from dataset_scripts.sample import chinese
from dataset_scripts.sample.captions import expression
from dataset_scripts.sample.questions import (
    ATTRIBUTES,
    REST,
    Question,
    border,
    caption,
    color,
    is_colored,
    is_there,
    material,
    present_and_absent,
    referring,
    shape_at,
)
from dataset_scripts.sample.views import View, views_of
from dataset_scripts.sample.vocabulary import SHAPES, Split
from dataset_scripts.sample.write import SETTINGS_FILE, SampleSettings

_TURNS = 5  # of a conversation about a picture
_TEXT_ROWS = 10  # one text-only conversation after so many about pictures
_POPE_IMAGES, _REFERRING_IMAGES, _CHOICE_IMAGES = 100, 300, 100  # at most
_ROUND = 1_000_000  # between the ids of a question's rounds in MMBench
_HINT = 'Objects have a rim of another color.\nIt is called their "border".'

Views = Sequence[tuple[View, np.random.Generator]]


def write_llava(sample: str | Path) -> Path:
    """Writes ``SAMPLE/llava``; what is there already is kept, since it depends on the sample alone.

    Raises:
        ValueError: the folder holds no generated sample.
    """
    sample = Path(sample)
    if not (sample / SETTINGS_FILE).is_file():
        raise ValueError(f"{sample} holds no generated sample (no {SETTINGS_FILE}); write one first")
    settings = SampleSettings(**read_json(sample / SETTINGS_FILE))
    output = sample / "llava"
    if output.exists():
        return output
    train, test = (list(views_of(sample, split, settings.image_size, settings.seed)) for split in ("train", "test"))
    with replacing_folder(output) as part:
        _write_training(sample, part, train)
        _write_gqa(sample, part / "eval" / "gqa", test)
        _write_pope(sample, part / "eval" / "pope", test[:_POPE_IMAGES])
        _write_refcoco(sample, part / "eval" / "refcoco", test[:_REFERRING_IMAGES])
        _write_mmbench(sample, part / "eval" / "mmbench", test[:_CHOICE_IMAGES])
    return output


def _jpeg(sample: Path, split: Split, view: View) -> bytes:
    stored = sample / split / "images" / view.path
    if view.window is None:
        return stored.read_bytes()
    file = io.BytesIO()
    with Image.open(stored) as picture:
        picture.crop(view.window).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _save(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _conversation(turns: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"from": who, "value": text} for turn in turns for who, text in zip(("human", "gpt"), turn, strict=True)]


def _write_training(sample: Path, folder: Path, views: Views) -> None:
    pretrain, instruct = [], []
    for view, rng in views:
        image = f"train/images/{view.path}"
        if view.window is not None:
            name = f"{view.index:09d}.jpg"
            image = f"llava/images/{name}"
            _save(folder / "images" / name, _jpeg(sample, "train", view))
        asked = ("<image>\nProvide a brief description of the given image.", caption(view))
        pretrain.append({"id": f"{view.index:09d}", "image": image, "conversations": _conversation([asked])})
        turns = list(_turns(view, rng))
        turns[0] = (f"<image>\n{turns[0][0]}", turns[0][1])
        instruct.append({"id": f"{view.index:09d}", "image": image, "conversations": _conversation(turns)})
        if view.index % _TEXT_ROWS == 0:
            turns = [_sorting(rng) for _ in range(2)]
            instruct.append({"id": f"text_{view.index:09d}", "conversations": _conversation(turns)})
    write_json(folder / "pretrain.json", pretrain)
    write_json(folder / "instruct.json", instruct)


def _turns(view: View, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Turns of the kinds of LLaVA's mixture: short answers, choices among options, boxes, descriptions of boxes."""
    makers = [*ATTRIBUTES, *(REST[index] for index in rng.permutation(len(REST))[: _TURNS - 4]), "located", "chosen"]
    for index in rng.permutation(len(makers)):
        maker = makers[index]
        if maker == "located":
            yield _located(view, rng)
        elif maker == "chosen":
            options, letter, asked = _choice(view, rng)
            yield f"{options_text(asked.text, options)}\n{OPTION_LETTER}", letter
        else:
            asked = maker(view, rng)
            yield f"{asked.text}\n{SHORT_ANSWER}", asked.answer.capitalize()


def _located(view: View, rng: np.random.Generator) -> tuple[str, str]:
    """A box for a phrase or a phrase for a box, in the padded square as LLaVA's own."""
    thing = view.things[int(rng.integers(len(view.things)))]
    box = box_text(into_square(thing.box, view.size, "pad"))
    if rng.random() < 0.25:
        return DESCRIBE.format(box), expression(thing.looks)
    kind = ("refcoco", "refcoco+", "refcocog")[int(rng.integers(3))]
    return LOCATE.format(referring(thing, rng, kind)), box


def _choice(view: View, rng: np.random.Generator) -> tuple[list[str], str, Question]:
    """Options in a random order, the letter of the right one, and the question."""
    makers = (color, border, material, shape_at, is_colored)
    asked = makers[int(rng.integers(len(makers)))](view, rng)
    options = [asked.answer, *asked.others]
    options = [options[index] for index in rng.permutation(len(options))]
    return options, OPTIONS[options.index(asked.answer)], asked


def _sorting(rng: np.random.Generator) -> tuple[str, str]:
    """A turn that needs no picture."""
    words = [SHAPES[index] for index in rng.permutation(len(SHAPES))[:3]]
    return f"Put these words in alphabetical order: {', '.join(words)}.", f"{', '.join(sorted(words))}."


def _write_gqa(sample: Path, folder: Path, views: Views) -> None:
    questions: dict[str, dict[str, Any]] = {}
    for view, rng in views:
        image = f"n{view.index:06d}"
        _save(folder / "images" / f"{image}.jpg", _jpeg(sample, "test", view))
        for maker in (*ATTRIBUTES, REST[int(rng.integers(len(REST)))]):
            asked = maker(view, rng)
            questions[f"20{len(questions):07d}"] = {
                "question": asked.text,
                "imageId": image,
                "answer": asked.answer,
                "isBalanced": True,
                "types": {"structural": asked.structural, "semantic": asked.semantic, "detailed": asked.detailed},
            }
    write_json(folder / "testdev_balanced_questions.json", questions)


def _write_pope(sample: Path, folder: Path, views: Views) -> None:
    """As many absent objects as present ones; absent ones at random, the most frequent, or the most often met beside."""
    met: Counter[str] = Counter()
    beside: Counter[tuple[str, str]] = Counter()
    for view, _ in views:
        there, _ = present_and_absent(view)
        met.update(there)
        beside.update((one, other) for one in there for other in there if one != other)
    rows: dict[str, list[dict[str, Any]]] = {"random": [], "popular": [], "adversarial": []}
    for view, rng in views:
        name = f"COCO_val2014_{view.index:012d}.jpg"
        _save(folder / "val2014" / name, _jpeg(sample, "test", view))
        there, absent = present_and_absent(view)
        shuffled = [absent[index] for index in rng.permutation(len(absent))]
        order = {
            "random": shuffled,
            "popular": sorted(shuffled, key=lambda shape: -met[shape]),
            "adversarial": sorted(shuffled, key=lambda shape: -sum(beside[one, shape] for one in there)),
        }
        for split, candidates in order.items():
            for shape, other in zip(there, candidates, strict=False):
                for text, label in ((is_there(shape), "yes"), (is_there(other), "no")):
                    number = len(rows[split]) + 1
                    rows[split].append({"question_id": number, "image": name, "text": text, "label": label})
    for split, lines in rows.items():
        _json_lines(folder / f"coco_pope_{split}.json", lines)


def _write_refcoco(sample: Path, folder: Path, views: Views) -> None:
    """As Qwen-VL converted the three sets, which is what LLaVA's users have: boxes x1, y1, x2, y2 in pixels."""
    splits = dict.fromkeys(("refcoco", "refcoco+"), ("val", "testA", "testB")) | {"refcocog": ("val", "test")}
    rows: dict[str, list[dict[str, Any]]] = {f"{kind}_{part}": [] for kind in splits for part in splits[kind]}
    for view, rng in views:
        name = f"COCO_train2014_{view.index:012d}.jpg"
        _save(folder / "train2014" / name, _jpeg(sample, "test", view))
        for kind, parts in splits.items():
            for thing in view.things:
                rows[f"{kind}_{parts[view.index // 3 % len(parts)]}"].append(
                    {
                        "image": f"train2014/{name}",
                        "sent": referring(thing, rng, kind),
                        "bbox": list(map(float, thing.box)),
                        "width": view.size[0],
                        "height": view.size[1],
                    }
                )
    for split, lines in rows.items():
        _json_lines(folder / f"{split}.jsonl", lines)


_COLUMNS = ("index", "question", "hint", *OPTIONS, "answer", "category", "image", "source", "l2-category", "comment", "split")  # fmt: skip
_CATEGORIES = {
    "shape": ("object_localization", "finegrained_perception (instance-level)"),
    "colorVerify": ("attribute_comparison", "finegrained_perception (cross-instance)"),
}
_CATEGORY = ("attribute_recognition", "finegrained_perception (instance-level)")


def _write_mmbench(sample: Path, folder: Path, views: Views) -> None:
    """Each question as often as it has options, which move on by one place a round; without answers in the test files."""
    files: dict[str, list[dict[str, Any]]] = {}
    for view, rng in views:
        image = base64.b64encode(_jpeg(sample, "test", view)).decode()
        part = "dev" if view.index % 4 else "test"
        options, letter, asked = _choice(view, rng)
        category, parent = _CATEGORIES.get(asked.detailed, _CATEGORY)
        for number in range(len(options)):
            moved = options[-number:] + options[:-number] if number else options
            right = OPTIONS[(OPTIONS.index(letter) + number) % len(options)]
            for language in ("en", "cn"):
                shown = moved if language == "en" else list(map(chinese.word, moved))
                text = asked.text if language == "en" else chinese.question(asked.detailed, asked.about)
                row = dict.fromkeys(_COLUMNS, "") | dict(zip(OPTIONS, shown, strict=False))
                row |= {"index": view.index + number * _ROUND, "question": text, "image": image, "split": part}
                row |= {"category": category, "l2-category": parent, "source": "generated sample"}
                row |= {"hint": _HINT} if asked.detailed == "border" and language == "en" else {}
                row |= {"answer": right} if part == "dev" else {}
                files.setdefault(f"mmbench_{part}_{language}_20231003.tsv", []).append(row)
    folder.mkdir(parents=True)
    for name, rows in files.items():
        columns = [column for column in _COLUMNS if column != "answer" or "_dev_" in name]
        with open(folder / name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: row["index"]))
