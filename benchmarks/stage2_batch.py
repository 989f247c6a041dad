"""A stage-2 batch of random pixels and tokens, with as many texts of such lengths as FineHARD has."""

import math
import random
from typing import Any

import torch

from modeling_fgclip import FGCLIP2Config, FGCLIPConfig, pack_full_texts, pack_texts
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

    def __init__(self, config: FGCLIPConfig | FGCLIP2Config, rng: random.Random):
        self.rows: dict[tuple[Tokens, str], int] = {}
        text = config.text_config
        self.start, self.end, self.rng = text.bos_token_id, text.eos_token_id, rng
        # CLIP's marks end the vocabulary, Gemma's begin it.
        self.words = (3, text.vocab_size) if self.start == 2 else (1, min(self.start, self.end))
        self.longest = {"short": text.max_position_embeddings, "long": text.max_long_position_embeddings}

    def draw(self, bounds: tuple[int, int], kind: str = "short") -> Tokens:
        words = min(self.rng.randint(*bounds), self.longest[kind]) - 2
        return (self.start, *(self._word() for _ in range(words)), self.end)

    def rewritten(self, text: Tokens) -> Tokens:
        """A hard negative: one word is another."""
        place = self.rng.randint(1, len(text) - 2)
        return (*text[:place], self._word(), *text[place + 1 :])

    def add(self, text: Tokens, kind: str = "short") -> int:
        return self.rows.setdefault((text, kind), len(self.rows))

    def _word(self) -> int:
        return self.rng.randrange(*self.words)


def make_batch(
    config: FGCLIPConfig | FGCLIP2Config, images: int, case: str, seed: int = 0, share_prefixes: bool | None = None
) -> dict[str, Any]:
    """A batch as [`~training.data.collator.FGCLIPCollator`] makes it: with regions, prefixes are shared unless told.

    Images of FG-CLIP 2 are squares of as many patches as it has positions.
    """
    rng = random.Random(seed)
    texts = _Texts(config, rng)
    long_index = [texts.add(texts.draw(LONG_TOKENS, "long"), "long") for _ in range(images)]
    short_index = [texts.add(texts.draw(SHORT_TOKENS)) for _ in range(images)]
    batch = _images(config, images, torch.Generator().manual_seed(seed))
    batch |= {"long_index": torch.tensor(long_index), "short_index": torch.tensor(short_index)}
    if case != "stage1":
        # FG-CLIP's head for short text reads phrases, too.
        phrase = "box" if isinstance(config, FGCLIP2Config) else "short"
        batch |= _regions([regions_of(case, rng) for _ in range(images)], texts, phrase, rng)
    rows, kinds = zip(*texts.rows, strict=True)
    if isinstance(config, FGCLIP2Config):
        text = config.text_config
        lengths = text.max_position_embeddings, text.max_long_position_embeddings
        batch["packed_texts"] = pack_full_texts(rows, kinds, *lengths, text.pad_token_id)
    else:
        share_prefixes = case != "stage1" if share_prefixes is None else share_prefixes
        batch["packed_texts"] = pack_texts(rows, [kind == "long" for kind in kinds], share_prefixes)
    return batch | {"text_hash": torch.arange(len(rows))}


def _images(config: FGCLIPConfig | FGCLIP2Config, images: int, generator: torch.Generator) -> dict[str, Any]:
    vision = config.vision_config
    if not isinstance(config, FGCLIP2Config):
        size = vision.image_size
        return {"pixel_values": torch.randn(images, 3, size, size, generator=generator)}
    patches, side = vision.num_patches, math.isqrt(vision.num_patches)
    return {
        "pixel_values": torch.randn(images, patches, 3 * vision.patch_size**2, generator=generator),
        "pixel_attention_mask": torch.ones(images, patches, dtype=torch.int32),
        "spatial_shapes": torch.full((images, 2), side),
        "patch_counts": [patches] * images,
    }


def _regions(negatives: list[list[int]], texts: _Texts, phrase: str, rng: random.Random) -> dict[str, torch.Tensor]:
    boxes = torch.zeros(len(negatives), MAX_REGIONS, 4)
    region_index = torch.full((len(negatives), MAX_REGIONS), NO_TEXT)
    hard_region_index, hard_rows = [], []
    for image, counts in enumerate(negatives):
        for place, count in enumerate(counts):
            left, top = rng.uniform(0, 0.5), rng.uniform(0, 0.5)
            boxes[image, place] = torch.tensor([left, top, left + rng.uniform(0.1, 0.5), top + rng.uniform(0.1, 0.5)])
            short, long = texts.draw(PHRASE_TOKENS), texts.draw(PHRASE_TOKENS)
            region_index[image, place] = texts.add(rng.choice((short, long)), phrase)
            if count:
                hard_region_index.append(image * MAX_REGIONS + place)
                rewrites = [texts.rewritten(short) for _ in range(count)]
                hard_rows.append([texts.add(text, phrase) for text in (short, *rewrites)])
    return {
        "boxes": boxes,
        "region_index": region_index,
        "hard_region_index": torch.tensor(hard_region_index, dtype=torch.long),
        "hard_index": torch.tensor(hard_rows, dtype=torch.long).reshape(-1, 1 + NEGATIVES),
    }
