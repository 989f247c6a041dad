"""The blind control: the same questions, each about the image of another one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.llava.benchmark import Question, image_groups, replaced_images


def of_whole_images(
    questions: Sequence[Question], count: int, random: np.random.Generator | None = None, images: int = 1
) -> list[Question]:
    """At least `count` questions about at least so many images, all questions of each; in the questions' order.

    Args:
        random: draws the images; None takes the first ones.
    """
    groups = image_groups(questions)
    order = np.arange(groups.max() + 1) if random is None else random.permutation(groups.max() + 1)
    enough = int(np.searchsorted(np.cumsum(np.bincount(groups)[order]), count)) + 1
    kept = np.isin(groups, order[: max(enough, images)])
    return [question for question, keep in zip(questions, kept, strict=True) if keep]


def blind(questions: Sequence[Question], count: int, seed: int = 0) -> list[Question]:
    """At least `count` of the questions, those about one image all about another one; none where there is only one image."""
    if count < 1:
        return []
    random = np.random.default_rng(seed)
    chosen = of_whole_images(questions, count, random, images=2)
    groups = image_groups(chosen)
    if groups.max() == 0:
        return []
    order = random.permutation(groups.max() + 1)
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    first = np.unique(groups, return_index=True)[1]
    return replaced_images(chosen, [chosen[first[other[group]]].image for group in groups])
