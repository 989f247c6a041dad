"""What both families' processors refuse as a text."""

from collections.abc import Sequence

# A text this many times as long as its positions is not cut but refused: it is no caption.
FAR_OVER = 4


def check_texts(texts: Sequence[str]) -> None:
    """Raises ValueError for what is no string with at least one word."""
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"Received {text!r} as text {index} of {len(texts)}; every text must be a string with at least one "
                "word. Drop it, or describe the image."
            )


def check_length(tokens: int, limit: int, long_limit: int) -> None:
    """Raises ValueError for a text of far more tokens than are read."""
    if tokens > FAR_OVER * limit:
        advice = "Shorten or split it." if limit == long_limit else f"Pass long_text=True for up to {long_limit}."
        raise ValueError(f"Received a text of {tokens} tokens, far over the {limit} that are read. {advice}")


__all__ = ["FAR_OVER", "check_length", "check_texts"]
