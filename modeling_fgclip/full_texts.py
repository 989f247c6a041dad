"""The texts of a batch for an encoder that reads padding: every text at its full length, each distinct one once.

SigLIP's text encoder is bidirectional and pooled at its last position, so padding is part of a text and nothing can be
cut or shared. Short and long texts lie one after the other in a single row, and one pass encodes them all. A text that
is both a caption and a region's phrase is encoded once and read by two heads.
"""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch.nn import functional as F

# In this order in `FullTexts.kinds`: the head that reads a text. Long text has positions of its own as well.
TEXT_KINDS = ("short", "box", "long")


class FullTexts(TypedDict):
    """N texts over R encoded rows, short ones first. A plain dictionary, so that data loaders can move it."""

    input_ids: torch.Tensor  # (T,) tokens of all rows
    position_ids: torch.Tensor  # (T,) rows of the table of short and long positions
    cu_seqlens: torch.Tensor  # (R + 1,) int32: where each row starts, and T
    length_groups: list[tuple[int, int]]  # (rows, tokens of each), on the host so that nothing has to be synchronized
    rows: torch.Tensor  # (N,) the row of each text
    kinds: torch.Tensor  # (N,) place of each text's kind in `TEXT_KINDS`


def text_kind(name: str) -> int:
    """The place of a kind in `TEXT_KINDS`.

    Raises:
        ValueError: for an unknown one.
    """
    if name not in TEXT_KINDS:
        raise ValueError(
            f"Received walk_type={name!r}; it is 'short' for captions of up to 64 tokens, 'box' for phrases of regions, or "
            "'long' for captions of up to 196 tokens."
        )
    return TEXT_KINDS.index(name)


def pad_ids(
    texts: Sequence[Sequence[int]], length: int, pad_token_id: int, advice: str = "`FGCLIP2Processor` cuts texts."
) -> torch.Tensor:
    """(N, length) token ids, padded on the right.

    Raises:
        ValueError: for an empty text and for one of more tokens.
    """
    for text in texts:
        if not 0 < len(text) <= length:
            raise ValueError(f"Received a text of {len(text)} tokens where 1 to {length} fit. {advice}")
    padded = torch.full((len(texts), length), pad_token_id)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = torch.as_tensor(text)
    return padded


def pack_full_texts(
    texts: Sequence[Sequence[int]], kinds: Sequence[str], short_length: int, long_length: int, pad_token_id: int
) -> FullTexts:
    """Packs token ids at full length.

    Args:
        texts: N lists of token ids, padded or not.
        kinds: N of `TEXT_KINDS`.
        short_length, long_length: tokens of a short or box text, and of a long one (64 and 196).
        pad_token_id: what a text is filled up with.

    Raises:
        ValueError: for other numbers of texts and kinds, an unknown kind, an empty text and one that is too long.
    """
    if not texts or len(texts) != len(kinds):
        raise ValueError(f"pack_full_texts needs a kind for each text, got {len(texts)} texts and {len(kinds)} kinds.")
    places = [text_kind(kind) for kind in kinds]
    groups: dict[bool, dict[tuple[int, ...], int]] = {False: {}, True: {}}
    row_in_group = []
    for text, kind in zip(texts, kinds, strict=True):
        ids, is_long = tuple(text), kind == "long"
        while len(ids) > 1 and ids[-1] == pad_token_id:
            ids = ids[:-1]
        row_in_group.append(groups[is_long].setdefault(ids, len(groups[is_long])))
    padded, positions, length_groups = [], [], []
    for is_long, length in ((False, short_length), (True, long_length)):
        if groups[is_long]:
            padded.append(pad_ids(list(groups[is_long]), length, pad_token_id).flatten())
            first = short_length if is_long else 0
            positions.append(torch.arange(first, first + length).repeat(len(groups[is_long])))
            length_groups.append((len(groups[is_long]), length))
    lengths = torch.cat([torch.full((rows,), length) for rows, length in length_groups])
    long_rows = torch.tensor([kind == "long" for kind in kinds]) * len(groups[False])
    return FullTexts(
        input_ids=torch.cat(padded),
        position_ids=torch.cat(positions),
        cu_seqlens=F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32),
        length_groups=length_groups,
        rows=torch.tensor(row_in_group) + long_rows,
        kinds=torch.tensor(places),
    )


__all__ = ["TEXT_KINDS", "FullTexts", "pack_full_texts", "pad_ids", "text_kind"]
