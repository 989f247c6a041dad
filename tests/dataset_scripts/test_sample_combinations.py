"""Which combinations are held out, and that nothing simpler than the triple tells the splits apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dataset_scripts.sample.captions import expression, parse
from dataset_scripts.sample.negatives import draw_slots, other_objects, replace_slots
from dataset_scripts.sample.vocabulary import (
    COLOR_NAMES,
    COLORS,
    HELD_OUT,
    MATERIALS,
    SHAPES,
    SLOTS,
    Appearance,
    allowed,
    draw_appearance,
)


def test_every_pair_of_attributes_is_uniform_in_both_splits() -> None:
    assert HELD_OUT.shape == (len(SHAPES), len(COLOR_NAMES), len(COLOR_NAMES))
    assert (HELD_OUT.sum(2) == 12).all()  # borders held out for a shape and color
    assert (HELD_OUT.sum(1) == 12).all()  # colors held out for a shape and border
    assert (HELD_OUT.sum(0) == len(SHAPES) // 2).all()  # shapes held out for a color and border
    assert not (allowed("train") & allowed("test")).any()
    assert (allowed("train") | allowed("test")).all()


def test_no_linear_rule_over_single_attributes_or_pairs_of_indices_predicts_the_split() -> None:
    shape, color, border = np.indices(HELD_OUT.shape)
    target = HELD_OUT.ravel() * 2.0 - 1
    features = [np.ones(HELD_OUT.size)]
    for one in (shape, color, border, shape * color, color * border, shape * border):
        features.append(one.ravel())
    for total, modulus in itertools.product(
        (shape + color + border, color + border, color - border), (2, 3, 4, 6, 8, 12)
    ):
        features += [(total % modulus == rest).ravel() for rest in range(modulus)]
    matrix = np.stack(features, 1).astype(float)
    solution, *_ = np.linalg.lstsq(matrix, target, rcond=None)
    explained = 1 - ((target - matrix @ solution) ** 2).mean()
    assert explained < 0.05


def test_colors_stand_far_apart() -> None:
    values = np.array(list(COLORS.values()), dtype=float)
    distance = np.linalg.norm(values[:, None] - values[None], axis=2)
    assert distance[~np.eye(len(values), dtype=bool)].min() > 50  # of 441 from black to white


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("slots", [s for n in (1, 2, 3) for s in itertools.combinations(SLOTS, n)])
def test_negatives_replace_exactly_the_asked_slots_with_distinct_allowed_values(slots, split) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        looks = draw_appearance(rng, split, int(rng.integers(len(SHAPES))))
        candidates = [looks, *replace_slots(rng, looks, slots, split)]
        assert len(candidates) == 11
        for name in Appearance._fields:
            values = {getattr(one, name) for one in candidates}
            assert len(values) == (11 if name in slots else 1)
        assert all(allowed(split)[one.shape, one.color, one.border] for one in candidates)


@pytest.mark.parametrize("split", ["train", "test"])
def test_trivial_negatives_are_other_shapes_each_allowed(split) -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        looks = draw_appearance(rng, split, int(rng.integers(len(SHAPES))))
        candidates = [looks, *other_objects(rng, looks, split)]
        assert len({one.shape for one in candidates}) == 11
        assert all(allowed(split)[one.shape, one.color, one.border] for one in candidates)


@pytest.mark.parametrize("slots", [s for n in (1, 2, 3) for s in itertools.combinations(SLOTS, n)])
def test_the_neighborhood_is_an_equivalence(slots) -> None:
    """If b can be a negative of a, their candidates are the same: so any of eleven could have been the positive."""
    rng = np.random.default_rng(2)
    looks = draw_appearance(rng, "test", 3)
    seen: dict[Appearance, set[Appearance]] = {}

    def neighbors(start: Appearance) -> set[Appearance]:
        if start not in seen:
            draws = (replace_slots(rng, start, slots, "test") for _ in range(400))
            seen[start] = {one._replace(material=0) for draw in draws for one in draw} | {start._replace(material=0)}
        return seen[start]

    home = neighbors(looks)
    if slots != ("material",):
        assert len(home) in (12, 24)
    for other in home:
        assert neighbors(other._replace(material=looks.material)) == home


def test_slots_are_drawn_evenly() -> None:
    rng = np.random.default_rng(3)
    counts = dict.fromkeys(SLOTS, 0)
    for _ in range(3000):
        (slot,) = draw_slots(rng, 1)
        counts[slot] += 1
    assert all(abs(count - 1000) < 120 for count in counts.values())  # 4.6 standard deviations


def test_an_expression_says_what_it_was_made_from() -> None:
    rng = np.random.default_rng(4)
    for shape in range(len(SHAPES)):
        for _ in range(50):
            looks = draw_appearance(rng, "train", shape)
            assert parse(expression(looks)) == looks
    orange = Appearance(0, COLOR_NAMES.index("orange"), MATERIALS.index("wooden"), COLOR_NAMES.index("light red"))
    assert expression(orange) == "an orange wooden circle with a light red border"
    with pytest.raises(ValueError, match="not an expression"):
        parse("a red dog")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="'train' or 'test'"):
        allowed("dev")
