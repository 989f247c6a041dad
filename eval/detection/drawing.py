"""Found boxes drawn on their picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageOps

if TYPE_CHECKING:  # a command's help shows DRAWN_FROM and imports nothing heavy
    import torch

DRAWN_FROM = 0.3  # score from which a box is drawn
DRAWN_SIDE = 640  # pixels; a smaller picture is enlarged, so that names can be read
# Distinct also in grayscale and for color-blind readers (Okabe and Ito, 2008).
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def draw(image: Image.Image, found: dict[str, torch.Tensor], names: Sequence[str], threshold: float) -> Image.Image:
    """The picture, enlarged if it is small, with its boxes at or above a score, the best on top."""
    factor = max(1, DRAWN_SIDE / max(image.size))
    image = image.copy() if factor == 1 else ImageOps.contain(image, (DRAWN_SIDE, DRAWN_SIDE))
    pen = ImageDraw.Draw(image)
    width = max(2, round(max(image.size) / 300))
    size = max(11, round(max(image.size) / 45))
    chosen = [place for place, score in enumerate(found["scores"].tolist()) if score >= threshold]
    for place in reversed(chosen):
        x1, y1, x2, y2 = (factor * found["boxes"][place]).tolist()
        label, score = int(found["labels"][place]), float(found["scores"][place])
        color = COLORS[label % len(COLORS)]
        pen.rectangle((x1, y1, x2, y2), outline=color, width=width)
        text = f"{names[label]} {score:.2f}"
        # Above the box where there is room, else inside it.
        left, top, right, bottom = pen.textbbox((x1, max(0, y1 - size * 1.3)), text, font_size=size)
        pen.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=color)
        pen.text((x1, max(0, y1 - size * 1.3)), text, fill="black", font_size=size)
    return image
