"""Small tokenizers trained on the captions at hand: CLIP's byte-level BPE, and one with SigLIP 2's special tokens."""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from modeling_fgclip.text_checks import read_literally

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
# With the ids 0 to 3, as in SigLIP 2's (Gemma's) tokenizer.
SIGLIP_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")


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
    return read_literally(CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=model_max_length))


def train_siglip_tokenizer(
    texts: Iterable[str], vocab_size: int, model_max_length: int = 64
) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer that treats texts as SigLIP 2's does: lower case, no start, an end, padding 0.

    Args:
        texts: to train on, in any language.
        vocab_size: at most; small collections yield fewer tokens.
        model_max_length: tokens of a short text.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(alphabet) + len(SIGLIP_TOKENS):
        raise ValueError(
            f"vocab_size must be at least {len(alphabet) + len(SIGLIP_TOKENS)}: all bytes and {len(SIGLIP_TOKENS)} "
            f"special tokens. Got {vocab_size}."
        )
    pad, end, start, unknown = SIGLIP_TOKENS
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SIGLIP_TOKENS),
        initial_alphabet=alphabet,
        min_frequency=2,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        eos_token=end,
        bos_token=start,
        unk_token=unknown,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=model_max_length,
    )
