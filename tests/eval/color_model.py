"""A model with known answers."""

from __future__ import annotations

import string
from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn

from eval.adapters import ModelAdapter

RGB = {
    "red": (230, 20, 20),
    "green": (20, 200, 30),
    "blue": (20, 30, 230),
    "yellow": (240, 230, 20),
    "white": (250, 250, 250),
    "black": (5, 5, 5),
}


class ColorModel(ModelAdapter):
    """Sees mean colors and reads color words, so that every task has an answer one can work out by hand.

    A text is embedded as the mean of its colors; a text without a color word is grey. Also shows how little a user has
    to write for a model of their own.
    """

    dense_kind = "mean color of a cell"
    long_text = True

    def __init__(self, name: str = "color"):
        self.name = name
        self.model = nn.Linear(1, 1)  # has a device and a mode
        self.images_encoded = 0
        self.texts_encoded: list[str] = []

    def preprocess(self, images: Sequence[Image.Image], squash: bool) -> dict:
        pixels = [
            torch.tensor(list(im.resize((32, 32)).tobytes()), dtype=torch.float32).view(32, 32, 3) for im in images
        ]
        return {"pixel_values": torch.stack(pixels).permute(0, 3, 1, 2) / 255 - 0.5}

    def encode_images(self, inputs: dict) -> torch.Tensor:
        self.images_encoded += len(inputs["pixel_values"])
        return inputs["pixel_values"].mean((2, 3))

    def tokenize(self, texts: Sequence[str], kind: str) -> dict:
        return {"texts": list(texts)}

    def encode_texts(self, inputs: dict, kind: str) -> torch.Tensor:
        self.texts_encoded += inputs["texts"]
        return torch.stack([self._read(text) for text in inputs["texts"]])

    def _read(self, text: str) -> torch.Tensor:
        words = [word.strip(string.punctuation) for word in text.lower().split()]
        colors = [RGB[word] for word in words if word in RGB] or [(140, 140, 140)]
        return torch.tensor(colors, dtype=torch.float32).mean(0) / 255 - 0.5

    def encode_dense(self, inputs: dict) -> torch.Tensor:
        self.images_encoded += len(inputs["pixel_values"])
        return torch.nn.functional.avg_pool2d(inputs["pixel_values"], 4).permute(0, 2, 3, 1)  # (N, 8, 8, 3)
