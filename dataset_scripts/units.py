"""Boxes in pixels taken for fractions, or the other way round: seen over a whole set, whose unit is one."""

from __future__ import annotations

from dataclasses import dataclass

from dataset_scripts.records import BOX_TOLERANCE, BoxFormat
from dataset_scripts.report import Fault

_NO_FRACTION = 2.0  # a box that reaches a whole image beyond its image is no rounding


def farthest_edge(box: object, box_format: BoxFormat) -> float | None:
    """The largest of x2 and y2 of a box in its own unit; None of what is no box of four numbers."""
    try:
        first, second, third, fourth = (float(number) for number in box[:4])  # type: ignore[index]
    except Exception:  # the gate says what is wrong with it
        return None
    return max(first + third, second + fourth) if box_format == "xywh" else max(third, fourth)


@dataclass
class UnitCheck:
    """Is shown the boxes of a set one by one, and refuses the set if all are in the other unit than declared."""

    boxes: int = 0
    in_fractions: int = 0
    in_pixels: int = 0

    def add(self, box: object, box_format: BoxFormat) -> None:
        if (edge := farthest_edge(box, box_format)) is not None:
            self.boxes += 1
            self.in_fractions += edge <= 1 + BOX_TOLERANCE
            self.in_pixels += edge > _NO_FRACTION

    def refuse(self, box_format: BoxFormat, where: str) -> None:
        """
        Raises:
            Fault: all boxes are in the other unit.
        """
        if not self.boxes:
            return
        if box_format != "normalized" and self.in_fractions == self.boxes:
            raise Fault(
                f"{where}: the boxes ({self.boxes:,}) are declared as {box_format} in pixels, but no edge lies beyond 1: their "
                "unit is fractions of the image; declare them as normalized x1, y1, x2, y2, or multiply them by width and height"
            )
        if box_format == "normalized" and self.in_pixels == self.boxes:
            raise Fault(
                f"{where}: the boxes ({self.boxes:,}) are declared as normalized fractions of the image, but each reaches far "
                "beyond 1: their unit is pixels; declare them as xyxy or xywh (--box-format)"
            )
