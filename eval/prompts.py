"""Prompt templates for class names (Radford et al., 2021)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

BARE = ["{}"]
PLAIN = ["a photo of a {}."]
# The subset that OpenAI's prompt-engineering notebook finds by forward selection.
OPENAI7 = [
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
]


def openai80() -> list[str]:
    """The 80 ImageNet templates of OpenAI's CLIP (MIT)."""
    return _lines("imagenet_templates.txt")


def imagenet_names() -> list[str]:
    """The 1,000 ImageNet class names of OpenAI's CLIP (MIT), in the order of the sorted WordNet ids."""
    return _lines("imagenet_classes.txt")


def imagenet_wnids() -> list[str]:
    """The 1,000 WordNet ids of ImageNet-1K, sorted: the classes that `imagenet_names` names, line by line."""
    return _lines("imagenet_wnids.txt")


def text_lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        ValueError: not UTF-8; names the line.
    """
    lines = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            encoding = "utf-8-sig" if number == 1 else "utf-8"  # some editors begin a file with a mark
            lines.append(line.decode(encoding).strip())
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}, line {number} is not UTF-8 ({error}); save the file as UTF-8.") from None
    return [line for line in lines if line]


def templates_named(name: str) -> list[str]:
    """bare, plain, openai7, openai80, or the lines of a file.

    Raises:
        ValueError: neither, or a template without a place for the name.
    """
    if name == "bare":
        return BARE
    if name == "plain":
        return PLAIN
    if name == "openai7":
        return OPENAI7
    if name == "openai80":
        return openai80()
    if not Path(name).is_file():
        raise ValueError(f"templates must be bare, plain, openai7, openai80 or a text file; got {name!r}.")
    lines = text_lines(Path(name))
    wrong = [line for line in lines if line.count("{}") != 1]
    if wrong or not lines:
        raise ValueError(
            f"{name}: every template needs exactly one {{}} for the class name; got {wrong[:1] or 'no line'}."
        )
    return lines


def _lines(name: str) -> list[str]:
    return files("eval").joinpath("assets", name).read_text(encoding="utf-8").splitlines()
