"""A small tokenizer of CLIP's byte-level BPE scheme, trained on the captions at hand."""

import json
from collections.abc import Iterable

from tokenizers import pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def train_tokenizer(texts: Iterable[str], vocab_size: int, model_max_length: int = 77) -> CLIPTokenizer:
    """Trains a CLIP tokenizer; as in CLIP, the end token has the highest id and is the padding.

    Args:
        texts: to train on.
        vocab_size: at most; small collections yield fewer tokens.
        model_max_length: tokens of a short text.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Every byte inside and at the end of a word, as in CLIP: without them a rare character would be the unknown token,
    # which is the end token, and the text would be read no further.
    base = [*alphabet, *(byte + WORD_END for byte in alphabet)]
    if vocab_size < len(base) + 2:
        raise ValueError(f"vocab_size must be at least {len(base) + 2}: all bytes, start and end. Got {vocab_size}.")
    backend = CLIPTokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix=WORD_END,
        min_frequency=2,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    merges = [tuple(merge) for merge in json.loads(backend.to_str())["model"]["merges"]]
    merges = merges[: vocab_size - 2 - len(base)]
    tokens = dict.fromkeys([*base, *("".join(merge) for merge in merges), START, END])
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=model_max_length)
