"""Referring expressions of captions (step 2)."""

import pytest

from dataset_scripts.curation.language.pipeline import load_language
from dataset_scripts.curation.steps.expressions import Expressions, ExpressionSettings, extract


@pytest.fixture(scope="module")
def nlp():
    return load_language()


def pairs(nlp, *texts, **settings):
    return [tuple(e) for e in extract([nlp(t) for t in texts], ExpressionSettings(**settings))]


def test_the_paper_s_own_example(nlp):
    """Figure 2: this caption, this region caption."""
    caption = (
        "The sewing machine is positioned on a pink cutting mat that has a grid pattern, which is typically used to "
        "ensure accurate cutting when working with fabric."
    )
    expected = (
        "a pink cutting mat that has a grid pattern which is typically used to ensure accurate cutting when working "
        "with fabric"
    )
    assert ("a pink cutting mat", expected) in pairs(nlp, caption)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "A brown dog with a red collar is sitting there.",
            [("A brown dog", "A brown dog with a red collar"), ("a red collar",) * 2],
        ),
        # conjuncts are expressions of their own and expand neither the one nor the other
        ("A man and a woman on a bench.", [("A man", "A man"), ("a woman", "a woman on a bench"), ("a bench",) * 2]),
        ("A group of people stands here.", [("A group of people",) * 2]),
        ("She throws it to him.", []),
        ("The image shows a cat in the background.", [("a cat", "a cat in the background")]),
        ("There is love and freedom in the afternoon.", []),
        ("A red top lies on the top of the shelf.", [("A red top",) * 2, ("the shelf",) * 2]),
        ("A boy in a white t - shirt.", [("A boy", "A boy in a white t-shirt"), ("a white t-shirt",) * 2]),
    ],
)
def test_chunks_and_expansions(nlp, caption, expected):
    from dataset_scripts.curation.language.text import join_hyphens

    assert pairs(nlp, join_hyphens(caption)) == expected


def test_no_commas_or_line_breaks_remain(nlp):
    found = pairs(nlp, "A worker in blue jeans, a yellow hat, and brown boots; he holds a hammer\nwith a red grip.")
    assert found
    assert not [e for pair in found for e in pair if any(c in e for c in ",;\n")]


def test_each_object_once_over_all_captions(nlp):
    short = [s for s, _ in pairs(nlp, "A red ball lies here.", "The red ball is round. A red ball.")]
    assert short == ["A red ball"]


def test_drop_contained_keeps_the_outermost_as_grit_does(nlp):
    caption = "A dog in a field of flowers."
    assert [s for s, _ in pairs(nlp, caption)] == ["A dog", "a field", "flowers"]
    assert pairs(nlp, caption, drop_contained=True) == [("A dog", "A dog in a field of flowers")]


def test_too_long_expansions_lose_their_clauses(nlp):
    caption = "A mat that has a grid pattern and that lies on a table near a window in a room."
    (_, long), *_ = pairs(nlp, caption, max_words=6)
    assert long == "A mat"


def test_limits(nlp):
    assert len(pairs(nlp, "A cat, a dog, a cow, a pig and a hen.", max_expressions=2)) == 2
    with pytest.raises(ValueError, match="max_words is 0"):
        ExpressionSettings(max_words=0)
    with pytest.raises(ValueError, match="at least one of"):
        ExpressionSettings(texts=())


def test_batch_keeps_rows_and_names_what_is_missing():
    batch = {
        "source_id": ["a", "b", "c"],
        "caption": ["A red ball.", None, "It is so."],
        "short_captions": [[], [""], []],
        "failures": [[], ["x"], []],
        "regions": [[], [], []],
        "expressions": [[], [], []],
    }
    result = Expressions(ExpressionSettings())(batch)
    assert result["expressions"] == [[{"short": "A red ball", "long": "A red ball"}], [], []]
    assert result["failures"] == [[], ["x", "expressions: no caption"], ["expressions: none found"]]
    assert batch["failures"] == [[], ["x"], []]  # the input is left as it was


def test_unknown_model_is_named():
    with pytest.raises(ValueError, match="no model 'xx_none'"):
        load_language("xx_none")
