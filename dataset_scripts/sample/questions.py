"""Questions about a picture of the generated sample, with their answers: what LLaVA is trained and tested on there.

Every wrong value is drawn as the right one is, so that a question alone tells nothing about its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dataset_scripts.sample.captions import expression, with_article
from dataset_scripts.sample.views import Thing, View
from dataset_scripts.sample.vocabulary import COLOR_NAMES, MATERIALS, SHAPES


@dataclass(frozen=True)
class Question:
    """One question with a short answer, and GQA's three names for its kind.

    Attributes:
        about: the words that the question names: an object or a place, and what is said of it.
        others: wrong answers of the same kind, for a choice among several.
    """

    text: str
    answer: str
    structural: str
    semantic: str
    detailed: str
    about: tuple[str, ...]
    others: tuple[str, ...] = ()


def _one(view: View, rng: np.random.Generator) -> tuple[Thing, str]:
    thing = view.things[int(rng.integers(len(view.things)))]
    return thing, SHAPES[thing.looks.shape]


def _others(rng: np.random.Generator, names: tuple[str, ...], own: int) -> tuple[str, ...]:
    return tuple(names[index] for index in rng.permutation(len(names)).tolist() if index != own)[:3]


def color(view: View, rng: np.random.Generator) -> Question:
    thing, shape = _one(view, rng)
    wrong = _others(rng, COLOR_NAMES, thing.looks.color)
    right = COLOR_NAMES[thing.looks.color]
    return Question(f"What is the color of the {shape}?", right, "query", "attr", "color", (shape,), wrong)


def border(view: View, rng: np.random.Generator) -> Question:
    thing, shape = _one(view, rng)
    wrong = _others(rng, COLOR_NAMES, thing.looks.border)
    right = COLOR_NAMES[thing.looks.border]
    text = f"What is the color of the border of the {shape}?"
    return Question(text, right, "query", "attr", "border", (shape,), wrong)


def material(view: View, rng: np.random.Generator) -> Question:
    thing, shape = _one(view, rng)
    wrong = _others(rng, MATERIALS, thing.looks.material)
    right = MATERIALS[thing.looks.material]
    return Question(
        f"What does the surface of the {shape} look like?", right, "query", "attr", "material", (shape,), wrong
    )


def shape_at(view: View, rng: np.random.Generator) -> Question:
    thing, shape = _one(view, rng)
    place = f"at the {thing.place}" if thing.place else "in the picture"
    wrong = _others(rng, SHAPES, thing.looks.shape)
    return Question(f"Which object is {place}?", shape, "query", "obj", "shape", (thing.place,), wrong)


def is_colored(view: View, rng: np.random.Generator) -> Question:
    thing, shape = _one(view, rng)
    right, wrong = COLOR_NAMES[thing.looks.color], _others(rng, COLOR_NAMES, thing.looks.color)[0]
    answer, said = ("yes", right) if rng.random() < 0.5 else ("no", wrong)
    return Question(
        f"Is the {shape} {said}?", answer, "verify", "attr", "colorVerify", (shape, said), _opposite(answer)
    )


def which_color(view: View, rng: np.random.Generator) -> Question:
    thing, shape = _one(view, rng)
    right, wrong = COLOR_NAMES[thing.looks.color], _others(rng, COLOR_NAMES, thing.looks.color)[0]
    first, second = (right, wrong) if rng.random() < 0.5 else (wrong, right)
    return Question(f"Is the {shape} {first} or {second}?", right, "choose", "attr", "colorChoose", (shape,), (wrong,))


def exists(view: View, rng: np.random.Generator) -> Question:
    there, absent = present_and_absent(view)
    answer, shapes = ("yes", there) if rng.random() < 0.5 else ("no", absent)
    shape = shapes[int(rng.integers(len(shapes)))]
    return Question(is_there(shape), answer, "verify", "obj", "exist", (shape,), _opposite(answer))


def is_there(shape: str) -> str:
    """POPE's question."""
    return f"Is there {with_article(shape)} in the image?"


def present_and_absent(view: View) -> tuple[list[str], list[str]]:
    """The shapes that a picture shows, and all others."""
    there = [SHAPES[thing.looks.shape] for thing in view.things]
    return there, [shape for shape in SHAPES if shape not in there]


def _opposite(answer: str) -> tuple[str]:
    return ("no",) if answer == "yes" else ("yes",)


Asker = Callable[[View, np.random.Generator], Question]
ATTRIBUTES: tuple[Asker, ...] = (color, border)
REST: tuple[Asker, ...] = (material, shape_at, is_colored, which_color, exists)


def caption(view: View) -> str:
    """All objects with all attributes, in reading order; nothing about their places."""
    names = [expression(thing.looks) for thing in view.things]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def referring(thing: Thing, rng: np.random.Generator, kind: str) -> str:
    """A phrase for one object, as RefCOCO (with places), RefCOCO+ (without) and RefCOCOg (a whole sentence) have them."""
    shape, body = SHAPES[thing.looks.shape], COLOR_NAMES[thing.looks.color]
    if kind == "refcocog":
        return "the " + expression(thing.looks).split(" ", 1)[1] + (f" at the {thing.place}" if thing.place else "")
    if kind == "refcoco+":
        return f"{body} {MATERIALS[thing.looks.material]} {shape}"
    return f"{thing.place} {shape}".strip() if rng.random() < 0.5 else f"{body} {shape}"
