"""A stage-2 batch of random pixels and tokens, with as many texts of such lengths as FineHARD has."""

import random
from typing import Any

import torch

from modeling_fgclip import FGCLIPConfig, pack_texts
from training.data.collator import NO_TEXT

MAX_REGIONS = 4
NEGATIVES = 10

# Tokens with start and end, drawn evenly: phrases of about 12 tokens, captions as FineHARD's.
PHRASE_TOKENS = (8, 16)
SHORT_TOKENS = (10, 22)
LONG_TOKENS = (80, 160)

CASES = ("hard", "typical", "stage1")

Tokens = tuple[int, ...]


def regions_of(case: str, rng: random.Random) -> list[int]:
    """Hard negatives of each region of an image.

    hard: 4 regions with 10 negatives each, 44 hard texts an image. typical: 3.3 regions on average, one in four with
    negatives (12 M images, 40 M boxes, 10 M of them with negatives; paper, section 3.3). stage1: none.
    """
    if case == "hard":
        return [NEGATIVES] * MAX_REGIONS
    if case == "typical":
        regions = rng.choices((2, 3, 4), weights=(0.2, 0.3, 0.5))[0]
        return [NEGATIVES if rng.random() < 0.25 else 0 for _ in range(regions)]
    if case == "stage1":
        return []
    raise ValueError(f"Received the case {case!r}; there are {', '.join(CASES)}.")


class _Texts:
    """Distinct texts, each once, as the collator keeps them."""

    def __init__(self, config: FGCLIPConfig, rng: random.Random):
        self.rows: dict[tuple[Tokens, bool], int] = {}
        self.start, self.end, self.rng = config.text_config.bos_token_id, config.text_config.eos_token_id, rng

    def draw(self, bounds: tuple[int, int]) -> Tokens:
        words = self.rng.randint(*bounds) - 2
        return (self.start, *(self._word() for _ in range(words)), self.end)

    def rewritten(self, text: Tokens) -> Tokens:
        """A hard negative: one word is another."""
        place = self.rng.randint(1, len(text) - 2)
        return (*text[:place], self._word(), *text[place + 1 :])

    def add(self, text: Tokens, long_text: bool = False) -> int:
        return self.rows.setdefault((text, long_text), len(self.rows))

    def _word(self) -> int:
        return self.rng.randrange(1, min(self.start, self.end))


def make_batch(
    config: FGCLIPConfig, images: int, case: str, seed: int = 0, share_prefixes: bool | None = None
) -> dict[str, Any]:
    """A batch as [`~training.data.collator.FGCLIPCollator`] makes it: with regions, prefixes are shared unless told."""
    rng = random.Random(seed)
    texts = _Texts(config, rng)
    size = config.vision_config.image_size
    pixel_values = torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(seed))
    long_index = [texts.add(texts.draw(LONG_TOKENS), long_text=True) for _ in range(images)]
    short_index = [texts.add(texts.draw(SHORT_TOKENS)) for _ in range(images)]
    batch = {
        "pixel_values": pixel_values,
        "long_index": torch.tensor(long_index),
        "short_index": torch.tensor(short_index),
    }
    if case != "stage1":
        batch |= _regions([regions_of(case, rng) for _ in range(images)], texts, rng)
    share_prefixes = case != "stage1" if share_prefixes is None else share_prefixes
    rows = list(texts.rows)
    batch["packed_texts"] = pack_texts([text for text, _ in rows], [is_long for _, is_long in rows], share_prefixes)
    return batch


def _regions(negatives: list[list[int]], texts: _Texts, rng: random.Random) -> dict[str, torch.Tensor]:
    boxes = torch.zeros(len(negatives), MAX_REGIONS, 4)
    region_index = torch.full((len(negatives), MAX_REGIONS), NO_TEXT)
    hard_region_index, hard_rows = [], []
    for image, counts in enumerate(negatives):
        for place, count in enumerate(counts):
            left, top = rng.uniform(0, 0.5), rng.uniform(0, 0.5)
            boxes[image, place] = torch.tensor([left, top, left + rng.uniform(0.1, 0.5), top + rng.uniform(0.1, 0.5)])
            short, long = texts.draw(PHRASE_TOKENS), texts.draw(PHRASE_TOKENS)
            region_index[image, place] = texts.add(rng.choice((short, long)))
            if count:
                hard_region_index.append(image * MAX_REGIONS + place)
                rewrites = [texts.rewritten(short) for _ in range(count)]
                hard_rows.append([texts.add(short), *(texts.add(text) for text in rewrites)])
    return {
        "boxes": boxes,
        "region_index": region_index,
        "hard_region_index": torch.tensor(hard_region_index, dtype=torch.long),
        "hard_index": torch.tensor(hard_rows, dtype=torch.long).reshape(-1, 1 + NEGATIVES),
    }
