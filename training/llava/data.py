"""LLaVA's own JSON as what trl trains on.

[{"id": …, "image": "coco/train2017/1.jpg", "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"},
{"from": "gpt", "value": "A dog."}, …]}, …]

A row without "image" is a conversation about text alone. The rules are LLaVA's (train.py, preprocess_multimodal,
preprocess_plain and preprocess_v1); what it passes over in silence is an error here.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value, concatenate_datasets

from dataset_scripts.json_stream import DamagedRecord, iterate_records
from dataset_scripts.paths import checked_relative
from dataset_scripts.report import Report

from .template import IMAGE

ROLES = {"human": "user", "gpt": "assistant"}

_BATCH = 10_000  # rows

_COMMON = {"images": List(Value("string")), "words": Value("int32")}
MESSAGES = Features({"messages": List({"role": Value("string"), "content": Value("string")}), **_COMMON})
CAPTIONS = Features({"prompt": Value("string"), "completion": Value("string"), **_COMMON})


def finetune_example(row: dict[str, Any]) -> dict[str, Any]:
    """A conversation as `images` and `messages`, whose image stands before the first question.

    Raises:
        ValueError: see [`turns_of`]; an answer is missing, or a question is empty.
    """
    images, turns = turns_of(row)
    if turns[-1]["role"] == "user":
        raise ValueError("the last question has no answer")
    for turn in turns:
        if not turn["content"].strip():
            raise ValueError(f"a turn of the {turn['role']} is empty")
    return {"images": images, "messages": turns, "words": _words(turns)}


def pretrain_example(row: dict[str, Any], start: str) -> dict[str, Any]:
    """An image and its caption as `images`, `prompt` and `completion`; the question is thrown away, as LLaVA does.

    Args:
        start: the tokenizer's first token.

    Raises:
        ValueError: see [`turns_of`]; there is no image, or more than one question and answer.
    """
    images, turns = turns_of(row)
    if not images or len(turns) != 2:
        raise ValueError(
            f"pretraining needs an image, a question and a caption; the row has {len(images)} images and {len(turns)} turns"
        )
    caption = turns[1]["content"]
    if not caption.strip():
        raise ValueError("the caption is empty")
    return {"images": images, "prompt": start + IMAGE, "completion": caption + "\n", "words": _words(turns)}


def turns_of(row: dict[str, Any]) -> tuple[list[str], list[dict[str, str]]]:
    """Relative paths of the images of a row, at most one, and its turns without `<image>`.

    LLaVA passes over an answer that comes before the first question, and puts the image before the question that names
    it, wherever `<image>` stood in it.

    Raises:
        ValueError: roles that do not alternate; several `<image>`, or one after the first question; `<image>` without
            an image, or the other way round; a path that leaves its folder.
    """
    if not isinstance(row, dict) or not isinstance(row.get("conversations"), list):
        raise ValueError('a row is {"image": …, "conversations": [{"from": …, "value": …}, …]}')
    said = [(turn["from"], turn["value"]) for turn in row["conversations"]]
    if said and said[0][0] == "gpt":
        said = said[1:]
    if not said:
        raise ValueError("the conversation has no question")
    roles = [who for who, _ in said]
    if roles != [("human", "gpt")[place % 2] for place in range(len(roles))]:
        raise ValueError(f"roles must alternate, human, gpt, human, …; they are {', '.join(map(str, roles))}")
    if bad := [text for _, text in said if not isinstance(text, str)]:
        raise ValueError(f"a turn says {bad[0]!r}, which is no text")
    places = [place for place, (_, text) in enumerate(said) for _ in range(text.count(IMAGE))]
    image = row.get("image")
    if isinstance(image, list) or len(places) > 1:
        raise ValueError(f"a row has one image at most, and one {IMAGE} for it; this one has {len(places)} {IMAGE}")
    if places and places[0] > 0:
        raise ValueError(f"{IMAGE} stands in turn {places[0] + 1}; it must stand in the first question")
    if places and image is None:
        raise ValueError(f"the text has {IMAGE} and the row names no image")
    if image is not None and not places:
        raise ValueError(f"the row names the image {image!r} and its text has no {IMAGE}")
    turns = [{"role": ROLES[who], "content": text} for who, text in said]
    if places:
        turns[0]["content"] = said[0][1].replace(IMAGE, "").strip()
    return [checked_relative(image)] if image is not None else [], turns


def _words(turns: list[dict[str, str]]) -> int:
    """By which LLaVA groups rows of like length."""
    return sum(len(turn["content"].split()) for turn in turns)


def load_examples(
    files: Sequence[str | Path],
    folder: Path,
    example: Callable[[dict[str, Any]], dict[str, Any]],
    features: Features,
    on_bad: str = "raise",
) -> tuple[Dataset, Report]:
    """Rows of one or several files, with images that are there.

    Args:
        files: LLaVA's JSON, or JSON lines.
        folder: to which the rows' images are relative.
        example: [`finetune_example`] or [`pretrain_example`].
        features: `MESSAGES` or `CAPTIONS`.
        on_bad: a bad row, or one whose image is missing, is an error ("raise") or counted and passed over ("skip").

    Raises:
        ValueError: a file or the folder is missing, a bad row with `on_bad="raise"`, or no row is left.
    """
    if not folder.is_dir():
        raise ValueError(f"Received image_folder={folder}, which is no folder; the rows' images are relative to it.")
    for file in map(Path, files):
        if not file.is_file():
            raise ValueError(f"Received the training data {file}, which is no file; give LLaVA's JSON.")
    report = Report(on_bad)
    rows, parts = _examples(files, folder, example, report), []
    while part := list(islice(rows, _BATCH)):  # as Arrow tables they take a fifth of the memory
        parts.append(Dataset.from_list(part, features=features))
    if not parts:
        raise ValueError(f"{', '.join(map(str, files))} holds no row to train on. {report}")
    return concatenate_datasets(parts), report


def _examples(
    files: Sequence[str | Path], folder: Path, example: Callable[[dict[str, Any]], dict[str, Any]], report: Report
) -> Iterator[dict[str, Any]]:
    names_in = lru_cache(maxsize=None)(_names_in)
    for file in files:
        for number, row in enumerate(iterate_records(str(file))):
            where = (
                f"{file}, row {number} (id {row['id']})"
                if isinstance(row, dict) and "id" in row
                else f"{file}, row {number}"
            )
            with report.entry(where, "row cannot be trained on"):
                if isinstance(row, DamagedRecord):
                    raise ValueError(f"no valid JSON: {row.text[:80]}")
                made = example(row)
                for name in made["images"]:
                    place, _, leaf = name.rpartition("/")
                    if leaf not in names_in(folder / place):
                        raise ValueError(f"the image {folder / name} is missing")
                report.keep("rows with an image" if made["images"] else "rows of text alone")
                yield made


def _names_in(folder: Path) -> frozenset[str]:
    """Read once a folder, since asking for each of 600,000 files takes long on a network's file system."""
    return frozenset(entry.name for entry in os.scandir(folder)) if folder.is_dir() else frozenset()
