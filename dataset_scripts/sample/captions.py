"""The words for a scene: expressions of one object, a short and a long caption of all."""

from __future__ import annotations

import re

import numpy as np

from dataset_scripts.sample.scene import Scene, SceneObject
from dataset_scripts.sample.vocabulary import COLOR_NAMES, MATERIALS, SHAPES, Appearance

_NUMBERS = {2: "two", 3: "three", 4: "four"}
_EXPRESSION = re.compile(r"an? (.+) (\w+) (\w+) with an? (.+) border")


def with_article(words: str) -> str:
    """``a red star``, ``an arrow``."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def expression(looks: Appearance) -> str:
    """``a light red wooden star with a dark blue border``: every attribute that a negative may replace."""
    body = f"{COLOR_NAMES[looks.color]} {MATERIALS[looks.material]} {SHAPES[looks.shape]}"
    return f"{with_article(body)} with {with_article(COLOR_NAMES[looks.border])} border"


def parse(text: str) -> Appearance:
    """The inverse of :func:`expression`.

    Raises:
        ValueError: the text is not an expression of the generated sample.
    """
    match = _EXPRESSION.fullmatch(text)
    try:
        color, material, shape, border = match.groups()  # type: ignore[union-attr]
        return Appearance(
            SHAPES.index(shape), COLOR_NAMES.index(color), MATERIALS.index(material), COLOR_NAMES.index(border)
        )
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"{text!r} is not an expression of the generated sample, such as 'a red wooden star with a …'"
        ) from error


def free_expression(thing: SceneObject, rng: np.random.Generator) -> str:
    """The object's name with some of its attributes: from ``a star`` to more than the short expression says.

    People say as much of a thing as they like, and some phrases begin as captions do. Without free ones nothing tells
    a model what the noun alone means: the attributes of full expressions identify nearly every region of a batch. And
    if "a photo of" stood before whole scenes alone, the prompt "a photo of a star" would ask for a scene.
    """
    looks = thing.appearance
    said = rng.random(6) < (0.3, 0.5, 0.5, 0.5, 0.3, 0.25)
    words = (thing.size, COLOR_NAMES[looks.color], MATERIALS[looks.material])
    body = " ".join([*(word for word, says in zip(words, said[:3], strict=True) if says), SHAPES[looks.shape]])
    border = f" with {with_article(COLOR_NAMES[looks.border])} border" if said[3] else ""
    position = f" at the {thing.position}" if said[4] else ""
    return ("a photo of " if said[5] else "") + with_article(body) + border + position


def _sized(thing: SceneObject) -> str:
    return f"a {thing.size} {expression(thing.appearance).split(' ', 1)[1]}"


def short_caption(scene: Scene) -> str:
    """Color, material and shape of each object in reading order."""
    names = [expression(thing.appearance).split(" with ")[0] for thing in scene.objects]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _relation(first: SceneObject, second: SceneObject) -> str:
    (row_a, column_a), (row_b, column_b) = first.position.split(), second.position.split()
    words = []
    if row_a != row_b:
        words.append("above" if row_a == "top" else "below")
    if column_a != column_b:
        words.append("to the left of" if column_a == "left" else "to the right of")
    a, b = SHAPES[first.appearance.shape], SHAPES[second.appearance.shape]
    return f"The {a} is {' and '.join(words)} the {b}."


def long_caption(scene: Scene, rng: np.random.Generator) -> str:
    """All objects with all attributes in shuffled order, then how some of them lie to each other."""
    sentences = []
    if rng.random() < 0.3:
        sentences.append(f"There are {_NUMBERS[len(scene.objects)]} objects on a pale background.")
    for index in rng.permutation(len(scene.objects)):
        thing = scene.objects[index]
        if rng.random() < 0.5:
            sentences.append(_capitalised(f"{_sized(thing)} is at the {thing.position}."))
        else:
            sentences.append(f"At the {thing.position} there is {_sized(thing)}.")
    # One relation for two or three objects, two without an object in common for four.
    order = rng.permutation(len(scene.objects))
    for first, second in zip(order[:-1:2], order[1::2], strict=True):
        sentences.append(_relation(scene.objects[first], scene.objects[second]))
    return " ".join(sentences)
