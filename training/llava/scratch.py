"""A small random language model with a tokenizer of its own, to build a LLaVA where no Vicuna is at hand."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from dataset_scripts.formats.files import read_json

from .template import IMAGE, SYSTEM

# As in Llama's.
UNKNOWN, START, END = "<unk>", "<s>", "</s>"


def create_language_model(settings: dict[str, Any], texts: Iterable[str], output: str | Path, seed: int = 0) -> None:
    """Writes a Llama with random weights, and a tokenizer that knows these texts.

    Args:
        settings: `vocab_size` and further fields of LlamaConfig.
        texts: to train the tokenizer on.
    """
    tokenizer = train_llama_tokenizer(texts, settings["vocab_size"])
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    set_seed(seed)
    LlamaForCausalLM(LlamaConfig(**{**settings, **ids, "vocab_size": len(tokenizer)})).save_pretrained(output)
    tokenizer.save_pretrained(output)


def train_llama_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer with Llama's special tokens, the unknown one being the padding as in Vicuna."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(alphabet) + 3:
        raise ValueError(f"vocab_size must be at least {len(alphabet) + 3}: all bytes and 3 tokens. Got {vocab_size}.")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[UNKNOWN, START, END],
        initial_alphabet=alphabet,
        min_frequency=2,
        show_progress=False,
    )
    # The system's words, USER and ASSISTANT stand in each conversation.
    frame = [f"{SYSTEM} USER: \n ASSISTANT: "] * 2
    backend.train_from_iterator([*frame, *texts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=UNKNOWN,
        pad_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )


def conversation_texts(files: Sequence[str | Path]) -> Iterator[str]:
    """What is said in files of LLaVA's JSON."""
    for path in map(Path, files):
        for row in read_json(path):
            for turn in row["conversations"]:
                yield turn["value"].replace(IMAGE, "").strip()
