"""Token ids of the texts of batches. What comes again is not tokenized again: with CLIP's tokenizer each word, else each text."""

from collections.abc import Iterable
from typing import Any

from transformers import CLIPTokenizer

from modeling_fgclip import FGCLIP2Processor, FGCLIPProcessor
from modeling_fgclip.text_checks import check_texts

# Words or texts; when there are more, all are forgotten.
MAX_REMEMBERED = 1_000_000

Row = tuple[str, bool]  # text, whether it is a long caption


class TokenIds:
    """Does what the processor's `encode_texts` does, and remembers.

    CLIP's tokenizer splits at white space before anything else, so that a text's tokens are those of its words: a phrase
    and its ten negatives, and captions of a million images, are made of the same few thousand. Tokens added to a tokenizer
    may hold spaces; with such, and with FG-CLIP 2's tokenizer, whole texts are remembered.
    """

    def __init__(self, processor: FGCLIPProcessor | FGCLIP2Processor):
        self.processor = processor
        tokenizer = processor.tokenizer
        special = {tokenizer.bos_token, tokenizer.eos_token}
        self._by_word = isinstance(tokenizer, CLIPTokenizer) and tokenizer.get_added_vocab().keys() <= special
        self._words: dict[str, list[int]] = {}  # without start and end
        self._texts: dict[Row, list[int]] = {}

    def __call__(self, rows: Iterable[Row]) -> list[list[int]]:
        """Token ids of each text, from start to end token and cut to its limit.

        Raises:
            ValueError: for a text without a word, or that is no valid Unicode.
        """
        return self._of_words(list(rows)) if self._by_word else self._of_texts(list(rows))

    def _of_words(self, rows: list[Row]) -> list[list[int]]:
        tokenizer, known = self.processor.tokenizer, self._words
        split = [text.split(" ") for text, _ in rows]  # only there: Python knows more white space than the tokenizer
        if new := _unknown(known, {word for words in split for word in words}):
            check_texts(text for text, _ in rows)
            encoded = tokenizer(new, add_special_tokens=False, truncation=False, padding=False, verbose=False)
            known.update(zip(new, encoded["input_ids"], strict=True))
        start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        limits = {False: self.processor.short_text_length - 2, True: self.processor.long_text_length - 2}
        return [
            [start, *[token for word in words for token in known[word]][: limits[is_long]], end]
            for words, (_, is_long) in zip(split, rows, strict=True)
        ]

    def _of_texts(self, rows: list[Row]) -> list[list[int]]:
        new = _unknown(self._texts, set(rows))
        for long_text in (False, True):
            if texts := [text for text, is_long in new if is_long == long_text]:
                encoded = self.processor.encode_texts(texts, long_text)
                self._texts.update(((text, long_text), ids) for text, ids in zip(texts, encoded, strict=True))
        return [self._texts[row] for row in rows]


def _unknown(known: dict[Any, list[int]], wanted: set[Any]) -> list[Any]:
    """What of `wanted` has to be tokenized."""
    if len(known) + len(wanted - known.keys()) > MAX_REMEMBERED:
        known.clear()
    return list(wanted - known.keys())
