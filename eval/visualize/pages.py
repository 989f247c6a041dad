"""Boxes on images, and pages with the images inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from dataset_scripts.atomic import write_text
from dataset_scripts.pages import render
from modeling_fgclip.pixels import to_rgb

NormalizedBox = tuple[float, float, float, float]  # x1, y1, x2, y2 as fractions of the image
LONGEST = 640  # pixels of the longer side of an image in a page


def with_box(image: Image.Image, box: NormalizedBox) -> Image.Image:
    """A copy with the box (normalized xyxy) drawn in two colors, so that it shows on any ground."""
    copy = to_rgb(image).copy()
    x1, y1, x2, y2 = (value * side for value, side in zip(box, copy.size * 2, strict=True))
    width = max(2, round(max(copy.size) / 160))
    draw = ImageDraw.Draw(copy)
    draw.rectangle((x1 - width, y1 - width, x2 + width, y2 + width), outline="black", width=width)
    draw.rectangle((x1, y1, x2, y2), outline="yellow", width=width)
    return copy


def draw_boxed(axis: Any, image: Image.Image, box: NormalizedBox, place: NormalizedBox | None = None) -> None:
    """The image with its box on a matplotlib axis; the lines are as thin on a small image as on a large one.

    Args:
        place: left, top, width and height on an axis whose y points down; None for the pixels of the image.
    """
    from matplotlib.patches import Rectangle

    left, top, width, height = place or (0, 0, *image.size)
    axis.imshow(to_rgb(image), extent=(left, left + width, top + height, top), interpolation="bicubic")
    x1, y1, x2, y2 = box
    for color, line in (("black", 3.6), ("yellow", 1.8)):
        corner = left + x1 * width, top + y1 * height
        axis.add_patch(
            Rectangle(corner, (x2 - x1) * width, (y2 - y1) * height, fill=False, edgecolor=color, linewidth=line)
        )


def write_page(path: Path, title: str, **values: Any) -> Path:
    """Writes a page by the template that is called as the file."""
    write_text(path, render(f"eval/visualize/{path.name}", title=title, **values))
    return path
