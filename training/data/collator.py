"""From records to a batch: one tensor of images, one pack of distinct texts, and who belongs to whom."""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import xxhash
from PIL import Image

from modeling_fgclip import FGCLIP2Processor, FGCLIPProcessor
from training.family import training_family

from .augmentation import Augmentation
from .token_ids import TokenIds

# Stands in an index for "no text".
NO_TEXT = -1


class TextTable:
    """Collects the texts of a batch, each distinct one once.

    Args:
        same_texts: by kind of text the kind as which it is encoded (`TrainingFamily.same_texts`).
    """

    def __init__(self, same_texts: dict[str, str]) -> None:
        self.same_texts = same_texts
        self.rows: dict[tuple[str, str], int] = {}

    def add(self, text: str | None, kind: str) -> int:
        """The row of a text, new or known; `NO_TEXT` for a missing one."""
        if not text or not text.strip():
            return NO_TEXT
        return self.rows.setdefault((text, self.same_texts[kind]), len(self.rows))


@dataclass
class FGCLIPCollator:
    """Makes a training batch from records of the schema (`dataset_scripts/schema.py`).

    Randomness is a function of the seed, the record's `draw` (its epoch) and its `source_id`, so that a resumed run
    sees what an uninterrupted one would.

    Args:
        processor: prepares images and texts; the batch is for its family of models.
        max_regions: regions taken from an image, at random if it has more (published: 4); 0 for stage 1.
        short_caption_prefix: put before short captions, as published.
        augmentation: applied to image and boxes.
        identify_pictures: whether `picture_hash` is made, by which equal pictures are known.
        seed: of the choice of captions, regions and expressions, and of augmentation.
        crops: whether each region is also cut out and enlarged to an image of its own, for the model.
        teacher_crops: the same for a teacher.
        texts: whether any loss reads texts; if not, they are not tokenized.
    """

    processor: FGCLIPProcessor | FGCLIP2Processor
    max_regions: int = 4
    short_caption_prefix: str = "a photo of "
    augmentation: Augmentation | None = None
    identify_pictures: bool = False
    seed: int = 0
    crops: bool = False
    teacher_crops: bool = False
    texts: bool = True

    def __post_init__(self) -> None:
        self.family = training_family(self.processor)
        self._token_ids = TokenIds(self.processor)
        if self.crops and not self.family.takes_crops:
            raise ValueError(
                f"Received a loss on regions cut out of their images, which {self.family.name} cannot train: crops have "
                "grids of their own. Leave the loss out."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What it makes of records, for the record of a run."""
        own = {"max_regions": self.max_regions, "short_caption_prefix": self.short_caption_prefix}
        return own | (asdict(self.augmentation) if self.augmentation else {})

    def __call__(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns a batch of B images, N distinct texts and R regions with hard negatives.

        - `pixel_values` (B, 3, S, S) of 8 bits with `pixel_levels` (3, 256), which `training.data.pixels.normalized` makes
          floats of on the device; or patches with their mask and shapes and `patch_counts`, a list (FG-CLIP 2)
        - `packed_texts`, N texts; `source_ids`, B strings
        - `text_hash` (N,): equal for equal texts, on any rank; `picture_hash` (B,), if wanted, for equal pictures
        - `long_index`, `short_index` (B,): rows of the captions among the texts, -1 for a missing one
        - with regions: `boxes` (B, K, 4), `region_index` (B, K): rows of the phrases, -1 for padding;
          `hard_region_index` (R,): place in the flattened (B * K) regions; `hard_index` (R, 1 + negatives): rows of the
          phrase and of its negatives, -1 for padding
        - with crops: `crops` or `teacher_crops` (C, 3, S, S), of 8 bits too, and `crop_index` (C,): place in the flattened
          regions
        """
        generators = [
            random.Random(f"{self.seed}/{record.get('draw', 0)}/{record['source_id']}") for record in records
        ]
        pictures = [_picture_hash(record["image"]) for record in records] if self.identify_pictures else None
        if self.augmentation is not None:
            records = [self.augmentation(record, rng) for record, rng in zip(records, generators, strict=True)]
        texts = TextTable(self.family.same_texts)
        batch: dict[str, Any] = {
            **self.family.images(self.processor, [record["image"] for record in records]),
            "long_index": torch.tensor([texts.add(record["caption"], "long") for record in records]),
            "short_index": torch.tensor(
                [texts.add(self._short_caption(*pair), "short") for pair in zip(records, generators, strict=True)]
            ),
            "source_ids": [record["source_id"] for record in records],
        }
        if pictures is not None:
            batch["picture_hash"] = torch.tensor(pictures)
        if self.max_regions:
            batch |= self._regions(records, generators, texts)
        if not texts.rows:
            raise ValueError(
                f"Received {len(records)} records without any text (source ids {batch['source_ids'][:3]}…); every "
                "record needs `caption` or `short_captions`."
            )
        batch["text_hash"] = torch.tensor([_hash(text) for text, _ in texts.rows])
        if self.crops or self.teacher_crops:
            batch |= self._crops(records, batch)
        if self.texts:
            # Hard negatives begin as their phrase does; captions have little in common.
            batch["packed_texts"] = self._pack(texts, share_prefixes=bool(self.max_regions))
        return batch

    def _short_caption(self, record: dict[str, Any], rng: random.Random) -> str | None:
        """One of the short captions; another one at another visit."""
        captions = record["short_captions"]
        if not captions:
            return None
        return self.short_caption_prefix + (captions[0] if len(captions) == 1 else rng.choice(captions))

    def _regions(
        self, records: list[dict[str, Any]], generators: list[random.Random], texts: TextTable
    ) -> dict[str, torch.Tensor]:
        boxes = [[[0.0] * 4] * self.max_regions for _ in records]
        region_index = [[NO_TEXT] * self.max_regions for _ in records]
        hard_region_index, hard_rows = [], []
        for image, (record, rng) in enumerate(zip(records, generators, strict=True)):
            described = [region for region in record["regions"] if region["short_expr"] or region["long_expr"]]
            if len(described) > self.max_regions:
                described = rng.sample(described, self.max_regions)
            for place, region in enumerate(described):
                boxes[image][place] = region["bbox"]
                expressions = [text for text in (region["short_expr"], region["long_expr"]) if text]
                region_index[image][place] = texts.add(rng.choice(expressions), "box")
                if region["short_expr"] and region["negatives"]:
                    hard_region_index.append(image * self.max_regions + place)
                    hard_rows.append([texts.add(text, "box") for text in (region["short_expr"], *region["negatives"])])
        longest = max(map(len, hard_rows), default=2)
        hard_rows = [row + [NO_TEXT] * (longest - len(row)) for row in hard_rows]
        return {
            "boxes": torch.tensor(boxes, dtype=torch.float32),
            "region_index": torch.tensor(region_index),
            "hard_region_index": torch.tensor(hard_region_index, dtype=torch.long),
            "hard_index": torch.tensor(hard_rows, dtype=torch.long).view(-1, longest),
        }

    def _crops(self, records: list[dict[str, Any]], batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        crop_index = (batch["region_index"] != NO_TEXT).flatten().nonzero().squeeze(1)
        crops = []
        for place in crop_index.tolist():
            image, region = divmod(place, self.max_regions)
            crops.append(crop(records[image]["image"], batch["boxes"][image, region].tolist()))
        pixels = self.family.images(self.processor, crops)["pixel_values"]
        given = {"crops": self.crops, "teacher_crops": self.teacher_crops}
        return {"crop_index": crop_index} | {name: pixels for name, is_given in given.items() if is_given}

    def _pack(self, texts: TextTable, share_prefixes: bool) -> Any:
        token_ids = self._token_ids([(text, kind == "long") for text, kind in texts.rows])
        return self.family.pack(self.processor, token_ids, [kind for _, kind in texts.rows], share_prefixes)


def crop(image: Image.Image, box: Sequence[float]) -> Image.Image:
    """The pixels that a normalized xyxy box touches, at least one."""
    width, height = image.size
    left, top = min(math.floor(box[0] * width), width - 1), min(math.floor(box[1] * height), height - 1)
    return image.crop((left, top, max(math.ceil(box[2] * width), left + 1), max(math.ceil(box[3] * height), top + 1)))


def _picture_hash(image: Image.Image) -> int:
    """63 bits of size and pixels."""
    return xxhash.xxh3_64_intdigest(f"{image.size} {image.mode} ".encode() + image.tobytes()) >> 1


def _hash(text: str) -> int:
    """63 bits that are the same in every process, unlike Python's own hash."""
    return xxhash.xxh3_64_intdigest(text.encode()) >> 1
