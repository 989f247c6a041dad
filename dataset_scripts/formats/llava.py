"""LLaVA's data and benchmarks: the words of its prompts, and the square in which its boxes lie.

Source: haotian-liu/LLaVA at c121f043 (llava/eval/model_vqa_*.py, mm_utils.py); boxes: issues 606 and 623 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

SHORT_ANSWER = "Answer the question using a single word or phrase."
OPTION_LETTER = "Answer with the option's letter from the given choices directly."
OPTION_LETTER_CN = "请直接回答选项字母。"
LOCATE = "Please provide the bounding box coordinate of the region this sentence describes: {}."
DESCRIBE = "Please provide a short description for this region: {}."
OPTIONS = "ABCD"

# How a picture becomes the square that the vision tower sees: padded to it, squashed into it, or its center cut out.
ImageFit = Literal["pad", "squash", "crop"]
IMAGE_FITS: tuple[str, ...] = get_args(ImageFit)


def _square(size: Sequence[float], fit: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of the square in the picture's pixels; it reaches out of the picture for "pad"."""
    width, height = size
    if fit == "squash":
        return 0, 0, width, height
    if fit not in IMAGE_FITS:
        raise ValueError(f"image fit is {fit!r}; it must be one of {', '.join(IMAGE_FITS)}")
    if fit == "pad":  # whole pixels, as LLaVA's expand2square
        side = max(size)
        return -((side - width) // 2), -((side - height) // 2), side, side
    side = min(size)
    return (width - side) / 2, (height - side) / 2, side, side


def into_square(box: Sequence[float], size: Sequence[float], fit: str = "pad") -> list[float]:
    """A box in pixels of a picture as fractions of the square that the model sees; LLaVA's own boxes are of "pad".

    Args:
        box: x1, y1, x2, y2. size: width and height of the picture.
        fit: see `ImageFit`.
    """
    left, top, width, height = _square(size, fit)
    x1, y1, x2, y2 = box
    return [(x1 - left) / width, (y1 - top) / height, (x2 - left) / width, (y2 - top) / height]


def out_of_square(box: Sequence[float], size: Sequence[float], fit: str = "pad") -> list[float]:
    """The inverse of :func:`into_square`."""
    left, top, width, height = _square(size, fit)
    x1, y1, x2, y2 = box
    return [x1 * width + left, y1 * height + top, x2 * width + left, y2 * height + top]


def box_text(box: Sequence[float]) -> str:
    """``[0.35, 0.12, 0.65, 0.98]``, as LLaVA's data write boxes."""
    return f"[{', '.join(f'{edge:.2f}' for edge in box)}]"


def options_text(question: str, options: Sequence[str], hint: str = "") -> str:
    """A question with its options as LLaVA asks MMBench's; the closing sentence is not part of it."""
    lines = [hint, question] if hint else [question]
    return "\n".join([*lines, *(f"{letter}. {option}" for letter, option in zip(OPTIONS, options, strict=False))])
