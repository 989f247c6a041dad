"""Answers of many shapes, and a thousand broken ones."""

import json
import os
import random
import re
from pathlib import Path

import pytest

from dataset_scripts.curation.language.attributes import load_vocabulary
from dataset_scripts.curation.language.checks import NegativeChecker
from dataset_scripts.curation.language.pipeline import load_language
from dataset_scripts.curation.language.rules import with_articles
from dataset_scripts.curation.language.text import clean
from dataset_scripts.curation.models.answers import is_refusal, judge_caption, tidy_caption, whole_sentences
from dataset_scripts.curation.models.parser import MAX_ANSWER, parse_negatives
from dataset_scripts.curation.models.prompts import load_prompt
from dataset_scripts.curation.models.structured import closed, schema_fault

POSITIVE = "a red train in Swiss alps"
COLORS = ["blue", "green", "yellow", "white", "black", "brown", "pink", "purple", "orange", "silver"]
TEN = [f"a{'n' if c == 'orange' else ''} {c} train in Swiss alps" for c in COLORS]
QUOTED = ", ".join(f'"{t}"' for t in TEN)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(f'{{"negatives": [{QUOTED}]}}', TEN, id="as asked"),
        pytest.param(f"[{QUOTED}]", TEN, id="bare list"),
        pytest.param("{" + ", ".join(f'"{i}": "{t}"' for i, t in enumerate(TEN)) + "}", TEN, id="FineHARD's own form"),
        pytest.param(f'Sure! Here you go:\n```json\n{{"negatives": [{QUOTED}]}}\n```\nLet me know.', TEN, id="fenced"),
        pytest.param(f'Here are 10 versions: {{"negatives": [{QUOTED}]}} Hope this helps!', TEN, id="chatty"),
        pytest.param("Sure:\n" + "\n".join(f"{i}. {t}" for i, t in enumerate(TEN, 1)), TEN, id="numbered"),
        pytest.param("\n".join(f"{i}) {t}," for i, t in enumerate(TEN, 1)), TEN, id="numbered with brackets, commas"),
        pytest.param("\n".join(f'- "{t}"' for t in TEN), TEN, id="bullets in quotes"),
        pytest.param('{"negatives": [' + QUOTED[:200], TEN[:6], id="truncated"),
        pytest.param('```json\n{"negatives": [' + QUOTED[:200], TEN[:6], id="truncated in a fence"),
        pytest.param(f'{{"negatives": [{QUOTED}, "a tan train in Swiss alps"]}}', [*TEN, "a tan train in Swiss alps"],
                     id="one too many"),
        pytest.param('{"negatives": ["a blue train in Swiss alps"]}', TEN[:1], id="too few"),
        pytest.param('{"negatives": [{"text": "a blue train"}, {"text": "a green train"}]}',
                     ["a blue train", "a green train"], id="objects"),
        pytest.param('{"negatives": ["a blue,\\nshiny; train."]}', ["a blue shiny train"], id="to be cleaned"),
        pytest.param('{"thoughts": "hm", "versions": ["a blue train"]}', ["a blue train"], id="another key"),
    ],
)  # fmt: skip
def test_shapes(answer, expected):
    parsed = parse_negatives(answer)
    assert parsed.candidates == expected
    assert parsed.failure is None


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (None, "empty answer"),
        ("", "empty answer"),
        (" \n", "empty answer"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model, I do not generate misleading text.", "refusal"),
        ("A blue train would be one.", "no list in answer"),
        ("{}", "no list in answer"),
        ('{"negatives": []}', "no list in answer"),
        ('{"negatives": [1, 2, null]}', "no list in answer"),
        ('{"negatives": [{"color": "red"}, {"color": "blue"}]}', "objects in place of texts"),
        ('{"negatives": [{"color": "red", "material": "wood"}, {"color": "blue", "mat', "objects in place of texts"),
        ('{"negatives": [["red", "wood"]]}', "objects in place of texts"),
        ("[" * 5000, "no list in answer"),
        ("x" * (MAX_ANSWER + 1), "answer too long"),
    ],
)
def test_failures_have_names(answer, failure):
    assert parse_negatives(answer) == ([], failure)


RECORDED = Path(__file__).parents[1] / "answers"


def recorded(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("folder", [RECORDED, Path(os.environ.get("FGCLIP_LLM_ANSWERS", RECORDED))])
def test_recorded_answers_without_a_schema_give_no_loose_words(folder):
    """A real 0.5 B model, unled: objects of attributes, mostly cut off."""
    schema = load_prompt("negatives_v2").fill_schema(count=10, length=100)
    answers = recorded(folder, "unstructured")
    assert len(answers) >= 3
    for answer in answers:
        assert parse_negatives(answer["answer"]) == ([], "objects in place of texts")
        fault = schema_fault(answer["answer"], schema, answer["finish_reason"] == "length")
        assert fault == "['negatives'][0] breaks 'type'"


def test_recorded_answers_with_a_schema_have_their_expected_results():
    """The same model, led by the standard ``json_schema``: every candidate is read, and what passes is written down."""
    answers, expected = recorded(RECORDED, "structured"), json.loads((RECORDED / "expected.json").read_text())
    checker = NegativeChecker(load_language(), load_vocabulary())
    schema = load_prompt("negatives_v2").fill_schema(count=10, length=200)
    parsed = [parse_negatives(answer["answer"]) for answer in answers]
    assert [(len(p.candidates), p.failure) for p in parsed] == [(10, None)] * len(answers)
    assert [schema_fault(answer["answer"], schema, cut=False) for answer in answers] == [None] * len(answers)
    verdicts = checker.reasons_of_many([a["expression"] for a in answers], [p.candidates for p in parsed])
    passed = [
        [
            with_articles(text, load_vocabulary())
            for text, reason in zip(p.candidates, reasons, strict=True)
            if not reason
        ]
        for p, reasons in zip(parsed, verdicts, strict=True)
    ]
    assert [[a["expression"], texts] for a, texts in zip(answers, passed, strict=True)] == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": ["b", "c', {"a": ["b"]}),
        ('{"a": ["b", "c"', {"a": ["b", "c"]}),
        ('{"a": ["b", "c"]', {"a": ["b", "c"]}),
        ('{"a": [{"b": "c", "d": "e"}, {"f": "g", "h', {"a": [{"b": "c", "d": "e"}]}),
        ('{"a": [{"b": "c", "d', {"a": []}),
        ('{"a": "b", "c": "d', {"a": "b"}),
        ('["a]", "b', ["a]"]),
        ('["a\\"", "b', ['a"']),
        ("[1, 2", [1]),
        ("[[1, 2], [3", [[1, 2], []]),
        ("{", {}),
        ("{a", {}),
        ("[a, b", None),
        ("]", None),
        ("text", None),
    ],
)
def test_json_that_was_cut_off_keeps_its_whole_parts(text, value):
    assert closed(text) == value


def test_every_cut_of_an_answer_gives_a_beginning_of_its_texts():
    answer = f'{{"negatives": [{QUOTED}]}}'
    for end in range(len(answer) + 1):
        found = parse_negatives(answer[:end]).candidates
        assert found == TEN[: len(found)]
        assert len(found) >= answer[:end].count('", "')


def fuzz(rng):
    """An answer of one shape with damage: cuts, swaps, other objects, copies, markup, odd characters."""
    items = list(TEN)
    for _ in range(rng.randrange(6)):
        i = rng.randrange(len(items))
        items[i] = rng.choice([
            POSITIVE, items[rng.randrange(len(items))], "a blue bus in Swiss alps", "a train", "", "1. a tan train",
            "a red, train; in Swiss alps", "**bold** train", "train train train", 'a "blue" train in Swiss alps',
            "a blue train in Swiss alps and a dog", "ein blauer Zug", "a blue\ntrain in Swiss alps", "\x00\x1b[31m",
            "a 🚂 train in Swiss alps", "a teal train in Swiss alps " * 20, "the dog", "in Swiss alps", "<b>a tan train</b>",
        ])  # fmt: skip
    body = ", ".join('"' + t.replace('"', rng.choice(['\\"', '"'])) + '"' for t in items)
    text = rng.choice([
        f'{{"negatives": [{body}]}}', f"[{body}]", f"```json\n[{body}]\n```", "\n".join(f"{i}. {t}" for i, t in enumerate(items)),
        f"Sure! {{'negatives': [{body}]}}", "\n".join(f"* {t}" for t in items), f'{{"a": {{"b": [{body}]}}}}',
    ])  # fmt: skip
    for _ in range(rng.randrange(4)):
        i, j = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        text = rng.choice([text[:i], text[:i] + text[j:], text[:i] + text[i:j][::-1] + text[j:],
                           text[:i] + chr(rng.randrange(1, 0x2FFF)) + text[i:]])  # fmt: skip
    return text


def test_a_thousand_fuzzed_answers_give_no_exception_and_no_bad_negative():
    """What passes parser and checks is judged anew, by rules written without them."""
    rng = random.Random(7)
    checker = NegativeChecker(load_language(), load_vocabulary())
    parsed = [parse_negatives(fuzz(rng)).candidates for _ in range(1000)]
    # equal candidates are parsed once; a duplicate inside a group is judged before
    verdicts = checker.reasons_of_many([POSITIVE] * len(parsed), parsed, [checker.nlp(POSITIVE)] * len(parsed))
    good = [
        [c for c, reason in zip(g, v, strict=True) if reason is None] for g, v in zip(parsed, verdicts, strict=True)
    ]
    assert sum(map(len, good)) > 2000
    for group in good:
        keys = [re.sub(r"^(an?|the) ", "", c.lower().rstrip(".")) for c in group]
        assert len(set(keys)) == len(keys)
        for text, key in zip(group, keys, strict=True):
            assert re.fullmatch(r"[^,;\n\r\"{}\[\]<>*]+", text)
            assert {"train", "alps"} <= set(key.split())
            assert not {"bus", "dog"} & set(key.split())
            assert key != "red train in swiss alps"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A red-winged blackbird perched on a tree branch in a park.", None),
        ("A sign reads: sorry, we are closed. It hangs on a blue door.", None),
        ("", "empty answer"),
        ("I'm sorry, but I cannot describe this image.", "refusal"),
        ("I don't see an image. Please upload the image again.", "refusal"),
        ("A bird.", "too short"),
        ("The sky is very blue and calm " * 5, "repetition"),
    ],
)
def test_captions_are_judged(text, reason):
    assert judge_caption(text) == reason


def test_captions_are_tidied():
    assert tidy_caption('"A red\nball."') == "A red ball."
    assert tidy_caption("Caption:  A red\nball.") == "A red ball."
    assert whole_sentences("A red ball. It lies on a gre") == "A red ball."
    assert whole_sentences("A red ba") == ""
    assert not is_refusal("The man cannot be seen from the front; he wears a red coat.")


def test_prompts_are_files_with_versions(tmp_path):
    prompt = load_prompt("negatives_v2")
    assert (prompt.name, prompt.version) == ("negatives", 2)
    text = prompt.fill(expression="a red {train} costing $5", count=10)
    assert "a red {train} costing $5" in text
    assert "exactly 10" in text
    own = tmp_path / "mine.yaml"
    own.write_text("name: mine\nversion: 2\nsystem: s\nuser: 'Hello $name'\n")
    assert load_prompt(str(own)).digest != prompt.digest
    with pytest.raises(ValueError, match=r"placeholder \$name"):
        load_prompt(str(own)).fill(count=1)
    with pytest.raises(ValueError, match="no prompt 'other'"):
        load_prompt("other")


@pytest.mark.parametrize(
    "answer",
    [
        '["' + '\\"' * 45_000,
        '["' + '\\"' * 45_000 + "\\",
        "[" + '"a' * 45_000,
        "1. a" + " " * 90_000 + "b\n" * 2,
        "1" * 90_000,
    ],
    ids=["escaped quotes", "a backslash at the end", "open strings", "spaces", "digits"],
)
def test_hostile_answers_take_linear_time(answer: str) -> None:
    """In quadratic time this test would not end within minutes."""
    assert not parse_negatives(answer).candidates
    assert len(clean(answer)) <= len(answer)
