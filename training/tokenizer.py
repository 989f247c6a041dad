"""A small tokenizer of CLIP's byte-level BPE scheme, trained on the captions at hand."""

import json
from collections.abc import Iterable

from tokenizers import pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int, model_max_length: int = 77) -> CLIPTokenizer:
    """Trains a CLIP tokenizer; as in CLIP, the end token has the highest id and is the padding.

    Args:
        texts: to train on.
        vocab_size: at most; small collections yield fewer tokens.
        model_max_length: tokens of a short text.
    """
    backend = CLIPTokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        min_frequency=2,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    model = json.loads(backend.to_str())["model"]
    tokens = [
        token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1]) if token not in (START, END)
    ]
    vocab = {token: index for index, token in enumerate([*tokens, START, END])}
    merges = [tuple(merge) for merge in model["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=model_max_length)
