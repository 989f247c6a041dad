"""What the checks let through, and why they stop the rest."""

import pytest

from dataset_scripts.curation.language.attributes import load_vocabulary
from dataset_scripts.curation.language.checks import REASONS, NegativeChecker
from dataset_scripts.curation.language.pipeline import load_language
from dataset_scripts.curation.steps.quality import Quality, QualitySettings


@pytest.fixture(scope="module")
def checker():
    return NegativeChecker(load_language(), load_vocabulary())


@pytest.mark.parametrize(
    ("positive", "negative", "reason"),
    [
        # the paper's figure 3
        ("british shorthair with a red collar", "british shorthair with a grass green collar", None),
        ("a red train in Swiss alps", "a turquoise train in Swiss alps", None),
        ("a beige couch with a brick background", "A copper couch with a silver background", None),
        ("a red train", "a rusty train", None),
        ("khaki shorts", "blue shorts", None),
        ("orange shorts", "dark green shorts", None),
        ("pink top", "black top", None),
        ("khaki shorts", "khaki socks", "object changed"),
        ("pink top", "pink bottom", "object changed"),
        ("a red train", "a blue bus", "object changed"),
        ("a red train in the snow", "a blue train", "object changed"),
        ("a red train", "a blue train and a car", "object added"),
        ("a red train", "the red train", "equals the positive"),
        ("a red train", "A Red Train.", "equals the positive"),
        ("a red train", "a blue, train", "not clean"),
        ("a red train", "a blue train\n", "not clean"),
        ("a red train", "a blue; train", "not clean"),
        ("a red train", "1. a blue train", "markup"),
        ("a red train", '"a blue train"', "markup"),
        ("a red train", "**a blue train**", "markup"),
        ("a red train", "", "empty"),
        ("a red train", " ", "empty"),
        ("a red train", "a train", "no attribute changed"),
        ("a red train", "a blue train that is seen from far away in the early light of a day", "length"),
    ],
)
def test_reasons(checker, positive, negative, reason):
    assert checker.reasons(positive, [negative]) == [reason]
    assert reason is None or reason in REASONS


def test_the_second_of_two_is_the_duplicate(checker):
    assert checker.reasons("a red train", ["a blue train", "The blue train", "a green train"]) == [
        None,
        "duplicate",
        None,
    ]


def test_many_is_the_same_as_one_by_one(checker):
    positives = ["a red train", "a wooden box", "a man in red"]
    groups = [["a blue train", "a bus"], [], ["a man in blue", "a woman in red"]]
    together = checker.reasons_of_many(positives, groups)
    assert together == [checker.reasons(p, g) for p, g in zip(positives, groups, strict=True)]
    assert together[2] == [None, "object changed"]


def region(**values):
    good = {"bbox": [0.1, 0.1, 0.5, 0.5], "score": 0.5, "short_expr": "a red ball", "long_expr": None, "negatives": []}
    return {**good, **values}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"bbox": [0.5, 0.1, 0.1, 0.5]}, "box empty or outside the image"),
        ({"bbox": [0.1, 0.1, 1.5, 0.5]}, "box empty or outside the image"),
        ({"bbox": [0.1, 0.1, float("nan"), 0.5]}, "box not finite"),
        ({"short_expr": None}, "no expression"),
        ({"short_expr": "a\nb"}, "line break in expression"),
        ({"short_expr": "x" * 500}, "expression too long"),
        ({"short_expr": None, "long_expr": "a ball", "negatives": ["a"]}, "negatives without a short expression"),
    ],
)
def test_quality_removes_faulty_regions_and_says_why(values, reason):
    names = ("source_id", "caption", "short_captions", "expressions")
    batch = {**{n: [None] for n in names}, "failures": [[]], "regions": [[region(**values), region()]]}
    result = Quality(QualitySettings())(batch)
    assert result["regions"] == [[region()]]
    assert result["failures"] == [[f"quality: {reason}"]]


def test_quality_removes_bad_negatives_and_keeps_the_good():
    names = ("source_id", "caption", "short_captions", "expressions")
    mixed = region(negatives=["a blue ball", "a blue cube", "a red ball"])
    result = Quality(QualitySettings())({**{n: [None] for n in names}, "failures": [[]], "regions": [[mixed]]})
    assert result["regions"][0][0]["negatives"] == ["a blue ball"]
    expected = ["quality: negative: object changed", "quality: negative: equals the positive"]
    assert sorted(result["failures"][0]) == sorted(expected)
