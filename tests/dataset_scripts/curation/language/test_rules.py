"""FG-OVD's vocabulary, the draw of rule-based negatives, and the step over a batch (step 4)."""

import random
from collections import Counter
from functools import cache
from itertools import islice

import pytest

from dataset_scripts.curation.language.attributes import Vocabulary, compatible, load_vocabulary
from dataset_scripts.curation.language.checks import NegativeChecker
from dataset_scripts.curation.language.pipeline import load_language
from dataset_scripts.curation.language.prior import AttributePrior
from dataset_scripts.curation.language.rules import candidates
from dataset_scripts.curation.language.text import normalized
from dataset_scripts.curation.steps.negatives import Negatives, NegativeSettings


@pytest.fixture(scope="module")
def nlp():
    return load_language()


@pytest.fixture(scope="module")
def vocabulary():
    return load_vocabulary()


@cache
def found(nlp, vocabulary, text):
    return vocabulary.slots(nlp(text))


def draw(nlp, vocabulary, text, count=10, also=(), prior=None, seed=0, **options):
    slots = found(nlp, vocabulary, text)
    said = [slot for other in also for slot in vocabulary.slots(nlp(other))]
    source = candidates(text, slots, said, vocabulary, prior or AttributePrior(), random.Random(seed), **options)
    return list(islice(source, count))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red train", [("color", "red", "train")]),
        ("a black and white dog", [("color", "black", "dog"), ("color", "white", "dog")]),
        ("a man in red", [("color", "red", "man")]),
        ("a table made of dark brown wood", [("color", "dark brown", "wood"), ("material", "wood", "table")]),
        (
            "A leather vase that is transparent.",
            [("material", "leather", "vase"), ("transparency", "transparent", "vase")],
        ),
        ("light-blue jeans", [("color", "light blue", "jean")]),
        ("a polka dot dress", [("pattern", "polka dot", "dress")]),
        ("the white t-shirt", [("color", "white", "shirt")]),
        ("a pink top", [("color", "pink", "top")]),
        ("a glass of water", []),  # the object itself
        ("an orange", []),
        ("orange juice", []),
        ("red", []),
        ("black and red", []),  # of nothing
        ("a white woman", []),
    ],
)
def test_attributes_found(nlp, vocabulary, text, expected):
    assert [(s.category, s.value.text, s.noun) for s in vocabulary.slots(nlp(text))] == expected


def test_what_may_be_called_by_both_words_is_compatible(vocabulary):
    color = vocabulary.categories["color"].values
    assert compatible(color["silver"], color["grey"])
    assert compatible(color["blue"], color["dark blue"])
    assert not compatible(color["light blue"], color["dark blue"])
    assert not compatible(color["red"], color["green"])


def test_fgovd_s_vocabulary_is_all_there(vocabulary):
    colors = {f"{shade}{base}" for base in ("blue", "brown", "green", "grey", "orange", "pink", "purple", "red", "yellow")
              for shade in ("", "light ", "dark ")} | {"black", "white"}  # fmt: skip
    assert colors <= set(vocabulary.categories["color"].values)
    materials = {"stone", "wood", "rattan", "fabric", "crochet", "wool", "leather", "velvet", "metal", "paper", "plastic",
                 "glass", "ceramic"}  # fmt: skip
    assert materials <= set(vocabulary.categories["material"].values)
    patterns = {"plain", "striped", "dotted", "checkered", "woven", "studded", "perforated", "floral"}
    assert patterns <= set(vocabulary.categories["pattern"].values)
    assert set(vocabulary.categories["transparency"].values) >= {"opaque", "translucent", "transparent"}


@pytest.mark.parametrize(
    "text",
    ["a red train", "a black and white dog", "a striped shirt", "a transparent bottle", "a wooden table", "a man in red",
     "light-blue jeans", "a table made of dark brown wood"],
)  # fmt: skip
def test_ten_different_wrong_ones_that_pass_every_check(nlp, vocabulary, text):
    negatives = draw(nlp, vocabulary, text)
    assert len({normalized(n) for n in negatives} - {normalized(text)}) == 10
    assert NegativeChecker(nlp, vocabulary).reasons(text, negatives) == [None] * 10


def test_never_a_word_that_may_be_true(nlp, vocabulary):
    own = vocabulary.categories["color"].values["grey"]
    for text in draw(nlp, vocabulary, "a grey car", count=100):
        (*_, value), *_ = vocabulary.find(text)
        assert not compatible(value, own)
    # said of the same object elsewhere: both are true
    assert not [n for n in draw(nlp, vocabulary, "a red car", 100, also=["a green car"]) if "green" in n]
    assert [n for n in draw(nlp, vocabulary, "a red car", 100, also=["a green tree"]) if "green" in n]
    # in two colors, neither becomes the other
    assert not [
        n for n in draw(nlp, vocabulary, "a red and green hat", 100) if n.count("red ") > 1 or n.count("green") > 1
    ]


def test_grammar_does_not_give_them_away(nlp, vocabulary):
    for negative in draw(nlp, vocabulary, "A red train", count=100):
        article, first = negative.split()[:2]
        assert article == ("An" if first[0] in "aeiou" else "A")
    assert {n.split()[0] for n in draw(nlp, vocabulary, "an orange car", 100)} == {"a", "an"}
    assert all(n[0].isupper() for n in draw(nlp, vocabulary, "Red jacket", 30))
    assert not [n for n in draw(nlp, vocabulary, "a table made of metal", 100) if "wooden" in n]


def test_per_negative_changes_so_many(nlp, vocabulary):
    text = "a red train with a green roof and a blue door"
    for changes in (1, 2, 3):
        for negative in draw(nlp, vocabulary, text, per_negative=changes):
            assert sum(color not in negative for color in ("a red train", "a green roof", "a blue door")) == changes


def test_draw_follows_the_frequency_of_the_noun(nlp, vocabulary):
    """First draws against the closed form P(value | noun, value allowed), over 1,000 seeds."""
    prior = AttributePrior()
    for color, number in {"brown": 50, "black": 30, "white": 20}.items():
        for _ in range(number):
            prior.add(found(nlp, vocabulary, f"a {color} dog"))
    p = prior.probability(vocabulary, "color", "dog")
    assert sum(p.values()) == pytest.approx(1)
    first = Counter(draw(nlp, vocabulary, "a white dog", 1, prior=prior, seed=seed)[0] for seed in range(1000))
    own = vocabulary.categories["color"].values["white"]
    allowed = {v: q for v, q in p.items() if not compatible(vocabulary.categories["color"].values[v], own)}
    for color in ("brown", "black"):
        expected = allowed[color] / sum(allowed.values())
        assert first[f"a {color} dog"] / 1000 == pytest.approx(
            expected, abs=4 * (expected * (1 - expected) / 1000) ** 0.5
        )
    uniform = Counter(draw(nlp, vocabulary, "a white dog", 1, seed=s, matching="uniform")[0] for s in range(1000))
    assert max(uniform.values()) < 80  # of more than 40 values


def test_prior_of_parts_is_the_prior_of_the_whole(nlp, vocabulary):
    texts = ["a red car", "a red car", "a blue car", "a wooden box", "a striped red shirt"]
    whole, left, right = AttributePrior(), AttributePrior(), AttributePrior()
    for i, text in enumerate(texts):
        slots = vocabulary.slots(nlp(text))
        whole.add(slots)
        (left if i % 2 else right).add(slots)
    left.merge(AttributePrior(right.to_dict()))
    assert left.to_dict() == whole.to_dict()


def batch_of(*regions, failures=0):
    rows = [[{"bbox": [0.1, 0.1, 0.5, 0.5], "score": 1.0, "long_expr": None, "negatives": [], **r} for r in regions]]
    return {
        "source_id": ["x"],
        "caption": [None],
        "short_captions": [[]],
        "expressions": [[]],
        "failures": [[]],
        "regions": rows,
    }


def test_step_fills_regions_and_cleans_their_positive():
    step = Negatives(NegativeSettings())
    result = step(batch_of({"short_expr": "a red, round ball"}, {"short_expr": "a ball"}, {"short_expr": None}))
    first, second, third = result["regions"][0]
    assert first["short_expr"] == "a red round ball"
    assert len(set(first["negatives"])) == 10
    assert second["negatives"] == third["negatives"] == []
    assert result["failures"] == [[]]


def test_step_depends_on_the_record_alone_not_on_its_batch():
    step = Negatives(NegativeSettings())
    two = step(batch_of({"short_expr": "a red ball"}, {"short_expr": "a blue box"}))["regions"][0]
    one = step(batch_of({"short_expr": "a red ball"}))["regions"][0]
    assert two[0] == one[0]
    other_seed = Negatives(NegativeSettings(seed=1))(batch_of({"short_expr": "a red ball"}))["regions"][0]
    assert other_seed[0]["negatives"] != one[0]["negatives"]


def test_same_box_s_other_expression_is_not_made_wrong():
    step = Negatives(NegativeSettings(count=10))
    regions = ({"short_expr": "a red ball", "long_expr": "a blue ball on the left"},)
    assert not [n for n in step(batch_of(*regions))["regions"][0][0]["negatives"] if "blue" in n]


def test_too_few_is_none_and_is_reported():
    step = Negatives(NegativeSettings(count=200))
    result = step(batch_of({"short_expr": "a red ball", "negatives": ["old"]}))
    assert result["regions"][0][0]["negatives"] == []
    assert result["failures"] == [["negatives: too few good ones"]]
    kept = Negatives(NegativeSettings(count=200, minimum=20))(batch_of({"short_expr": "a red ball"}))
    assert 20 <= len(kept["regions"][0][0]["negatives"]) < 200
    old = Negatives(NegativeSettings(overwrite=False))(batch_of({"short_expr": "a red ball", "negatives": ["old"]}))
    assert old["regions"][0][0]["negatives"] == ["old"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "guess"}, "method is 'guess'"),
        ({"matching": "some"}, "matching is 'some'"),
        ({"method": "llm"}, "needs a section negatives.chat"),
        ({"count": 0}, "count is 0"),
        ({"minimum": 11}, "minimum is 11"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        NegativeSettings(**settings)


def test_vocabulary_files_are_checked(tmp_path):
    path = tmp_path / "v.yaml"
    path.write_text("color: {values: {red: [red]}, colour: 1}")
    with pytest.raises(ValueError, match="unknown keys"):
        Vocabulary.load(path)
    path.write_text("color: [red]")
    with pytest.raises(ValueError, match="needs `values"):
        Vocabulary.load(path)
    path.write_text("color: {values: {red: [red]}, fallback: {red: sound}}")
    with pytest.raises(ValueError, match="no categories"):
        Vocabulary.load(path)
