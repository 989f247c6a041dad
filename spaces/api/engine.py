"""What the model computes for many requests at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import normalize

from eval.adapters.base import TEXT_KINDS, ModelAdapter


@dataclass(frozen=True)
class TextItem:
    """A text and its kind: "short", "long", "region", or "auto": long where it does not fit into a short one."""

    text: str
    kind: str = "auto"


@dataclass(frozen=True)
class RegionItem:
    """An image and (K, 4) normalized xyxy boxes."""

    image: Image.Image
    boxes: torch.Tensor


class Engine:
    """Normalized embeddings from one model. Each method takes a batch and gives one answer an item.

    Args:
        adapter: the model behind the interface of the evaluation.
        device: where it runs.
    """

    def __init__(self, adapter: ModelAdapter, device: str = "cpu"):
        self.adapter, self.device = adapter, torch.device(device)
        adapter.model.to(self.device).eval()

    def tokens(self, item: TextItem) -> int:
        """Tokens that are read of a text, start and end included."""
        packed = self.adapter.tokenize([item.text], self._kind(item))
        ids = packed["input_ids"]
        return int(ids.numel())

    @torch.inference_mode()
    def texts(self, items: Sequence[TextItem]) -> list[torch.Tensor]:
        """(D,) for each text."""
        found: list[torch.Tensor | None] = [None] * len(items)
        for kind in TEXT_KINDS:
            chosen = [place for place, item in enumerate(items) if self._kind(item) == kind]
            if chosen:
                inputs = self._on_device(self.adapter.tokenize([items[place].text for place in chosen], kind))
                for place, row in zip(chosen, self._unit(self.adapter.encode_texts(inputs, kind)), strict=True):
                    found[place] = row
        return found

    @torch.inference_mode()
    def images(self, items: Sequence[Image.Image]) -> list[torch.Tensor]:
        """(D,) for each RGB image."""
        inputs = self._on_device(self.adapter.preprocess(list(items), squash=False))
        return list(self._unit(self.adapter.encode_images(inputs)))

    @torch.inference_mode()
    def regions(self, items: Sequence[RegionItem]) -> list[torch.Tensor]:
        """(K, D) for each image with K boxes."""
        inputs = self._on_device(self.adapter.preprocess([item.image for item in items], squash=True))
        most = max(len(item.boxes) for item in items)
        boxes = torch.zeros(len(items), most, 4)
        for row, item in zip(boxes, items, strict=True):
            row[: len(item.boxes)] = item.boxes
        features = self.adapter.encode_regions(inputs, boxes.to(self.device)).float()
        rows = zip(features, items, strict=True)
        return [normalize(row[: len(item.boxes)], dim=-1).cpu() for row, item in rows]

    def _kind(self, item: TextItem) -> str:
        """Raises:
        ValueError: a text that is to be read whole, and is longer than the model reads.
        """
        processor = getattr(self.adapter, "processor", None)
        if item.kind in ("short", "region") or not self.adapter.long_text or processor is None:
            return "short" if item.kind == "auto" else item.kind
        tokens = len(processor.tokenizer(item.text, verbose=False)["input_ids"])
        if tokens > processor.long_text_length:
            raise ValueError(
                f"a text has {tokens} tokens, and the model reads {processor.long_text_length}: shorten it, or send "
                "long_text=false to have it cut"
            )
        return "long" if item.kind == "long" or tokens > processor.short_text_length else "short"

    def _unit(self, features: torch.Tensor) -> torch.Tensor:
        return normalize(features.float(), dim=-1).cpu()

    def _on_device(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value.to(self.device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()
        }
