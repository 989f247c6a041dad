import random

import pytest

from tests.conftest import make_processor
from training.data import token_ids
from training.data.token_ids import TokenIds

TEXTS = [
    "a photo of a red star",
    "A  Red   star's arms, don't you'll 3 42 x2y!",
    " leading and trailing ",
    "tabs\tand\nlines\r\n \t a\u00a0b\u2003c\u3000d\x1ce\x85f",
    "<|endoftext|> is read literally <|startoftext|>x",
    "e\u0301 \u0301a \u00e9 \u212b ﬁ \u1e9b\u0323 ΑΣ ΣΑΣ İ ß",
    "星と鳥 🐦‍⬛🇩🇪 नमस्ते",
    "...!!! ?? a.b -- 'S 'tis ''",
    "\t \n a",
]


@pytest.mark.parametrize("is_long", [False, True])
def test_token_ids_are_the_processors(processor, is_long):
    random_texts = random.Random(0)
    alphabet = "ab Zé'\u0301 \t\n.,1<|>Σİ\u00a0\x1c星 "
    odd = ["".join(random_texts.choices(alphabet, k=random_texts.randint(1, 60))) + "x" for _ in range(300)]
    long = ["word " * 400, "w" * 2000, "a" * 30 + " " + "b" * 300]
    texts = [*TEXTS, *odd, *long]
    tokenize = TokenIds(processor)
    expected = processor.encode_texts(texts, is_long)
    for _ in range(2):  # new and known
        assert tokenize([(text, is_long) for text in texts]) == expected


def test_each_word_is_tokenized_once(processor, monkeypatch):
    asked = []
    unknown = token_ids._unknown
    monkeypatch.setattr(token_ids, "_unknown", lambda known, words: asked.append(unknown(known, words)) or asked[-1])
    tokenize = TokenIds(processor)
    tokenize([("a red star", False), ("a blue star", False)])
    tokenize([("a blue red star", True)])
    assert [sorted(words) for words in asked] == [["a", "blue", "red", "star"], []]


@pytest.mark.parametrize("added", ["red star", "star"])
def test_added_tokens_may_hold_spaces(added):
    processor = make_processor()  # the other tests' stays as it is
    processor.tokenizer.add_tokens(added)
    tokenize = TokenIds(processor)
    texts = ["a red star", "a red  star in a starry sky", "red"]
    for is_long in (False, True):
        assert tokenize([(text, is_long) for text in texts]) == processor.encode_texts(texts, is_long)


def test_fgclip2_texts(fgclip2_processor):
    tokenize = TokenIds(fgclip2_processor)
    texts = ["A red star", "a red star and a bird " * 40]
    for is_long in (False, True, False):
        assert tokenize([(text, is_long) for text in texts]) == fgclip2_processor.encode_texts(texts, is_long)


def test_when_memory_is_full_it_begins_anew(processor, monkeypatch):
    monkeypatch.setattr(token_ids, "MAX_REMEMBERED", 4)
    tokenize = TokenIds(processor)
    for texts in (["a red star"], ["a blue bird", "a red star"], ["one two three four five six"], ["six"]):
        assert tokenize([(text, False) for text in texts]) == processor.encode_texts(texts)


def test_broken_unicode_is_refused(processor):
    with pytest.raises(ValueError, match="half of a character"):
        TokenIds(processor)([("a \ud800 star", False)])
