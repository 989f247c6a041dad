import pytest

from training.data.tokenizer import END, START, train_tokenizer

TEXTS = ["a red dog", "a red cat", "a dog and a cat"] * 3


@pytest.mark.parametrize("text", ["a red dog", "zebra 0 and 17 über ✓!", "a"])
def test_any_text_survives(text):
    """No text holds an unknown token: that would be the end token, where texts are pooled."""
    tokenizer = train_tokenizer(TEXTS, 600)
    ids = tokenizer(text)["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.eos_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_special_tokens_are_clips():
    tokenizer = train_tokenizer(TEXTS, 600)
    assert tokenizer.convert_ids_to_tokens([len(tokenizer) - 2, len(tokenizer) - 1]) == [START, END]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.model_max_length == 77


def test_frequent_words_become_tokens():
    tokenizer = train_tokenizer(TEXTS, 600)
    assert len(tokenizer("a red dog")["input_ids"]) == 5


def test_a_vocabulary_too_small_for_all_bytes_is_refused():
    with pytest.raises(ValueError, match="514"):
        train_tokenizer(TEXTS, 500)
