"""What both families' processors take as a text: its words. What is none is refused, special tokens in it are plain."""

from collections.abc import Iterable
from typing import Any

# A text this many times as long as its positions is not cut but refused: it is no caption.
FAR_OVER = 4


def read_literally(tokenizer: Any) -> Any:
    """Makes a tokenizer read "<|endoftext|>" in a text as those characters, here and wherever it is loaded again.

    As the token, it would end the text: whatever follows would be read by nobody, or by some.

    Raises:
        ValueError: for a tokenizer without a vocabulary.
    """
    check_vocabulary(tokenizer)
    tokenizer.split_special_tokens = True
    tokenizer.init_kwargs["split_special_tokens"] = True
    return tokenizer


def set_lengths(tokenizer: Any, limit: int) -> None:
    """Sets truncation and padding in the tokenizer's file, for those who read it without transformers."""
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(limit)
    backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)


def check_vocabulary(tokenizer: Any) -> Any:
    """The tokenizer, if it knows more than special tokens.

    CLIPTokenizer makes an empty one, a token a letter, of a misspelt or unreachable name and of a folder without its
    files, with no word about it.

    Raises:
        ValueError: it does not.
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise ValueError(
            f"The tokenizer of {tokenizer.name_or_path or 'this processor'} has no vocabulary: the name is misspelt or "
            "cannot be reached, or the folder lacks tokenizer.json. Check the name, the network and the folder."
        )
    return tokenizer


def check_texts(texts: str | Iterable[str]) -> list[str]:
    """The texts as a list; one text becomes a list of one.

    Raises:
        ValueError: for anything but texts, no text at all, an empty one, and one that is no valid Unicode.
    """
    if isinstance(texts, (bytes, dict)) or not isinstance(texts, (str, Iterable)):
        raise ValueError(f"Received text of type {type(texts).__name__}; pass a string or a list of strings.")
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise ValueError("Received text=[], no text at all; leave `text` out, or pass at least one.")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"Received {text!r} as text {index} of {len(texts)}; every text must be a string with at least one word. "
                "Drop it, or describe the image."
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Received {text!r} as text {index} of {len(texts)}; it holds half of a character (a lone surrogate, at "
                f"{error.start}), which comes of decoding it wrongly. Repair it: "
                "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
            ) from None
    return texts


def check_length(tokens: int, limit: int, long_limit: int) -> None:
    """Raises ValueError for a text of far more tokens than are read."""
    if tokens > FAR_OVER * limit:
        advice = "Shorten or split it." if limit == long_limit else f"Pass long_text=True for up to {long_limit}."
        raise ValueError(f"Received a text of {tokens} tokens, far over the {limit} that are read. {advice}")


__all__ = ["FAR_OVER", "check_length", "check_texts", "check_vocabulary", "read_literally", "set_lengths"]
