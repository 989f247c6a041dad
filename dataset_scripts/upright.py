"""Boxes turn with their picture: which picture, stored or upright, an annotation's boxes belong to."""

from __future__ import annotations

from collections.abc import Sequence

from modeling_fgclip.pixels import Header

# Where a point (x, y) of the stored picture lies in the upright one, as fractions, by EXIF orientation.
_POINTS = {
    1: lambda x, y: (x, y),
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}


def turn_of_boxes(header: Header, declared: tuple[float, float] | None) -> int:
    """The EXIF orientation by which boxes turn to lie in the upright picture; 1 leaves them as they are.

    Boxes belong to the picture whose size the annotation declares. Where it declares none, or where the stored and the
    upright picture have the same size, they belong to the upright one, which is what people and annotation tools see.

    Args:
        header: of the picture.
        declared: (width, height) that the annotation gives, in pixels.

    Raises:
        ValueError: the size is neither that of the upright nor that of the stored picture.
    """
    if declared is None or (*declared,) == header.size:
        return 1
    if (*declared,) == header.stored:
        return header.orientation
    sizes = " or ".join(f"{width}×{height}" for width, height in dict.fromkeys((header.size, header.stored)))
    raise ValueError(
        f"the annotation declares {declared[0]:g}×{declared[1]:g} pixels, the picture has {sizes}: it is another picture, "
        "or was resized, and boxes would land in the wrong place; give the size of the picture as it is"
    )


def turn_back(orientation: int) -> int:
    """The orientation that undoes another one: from the upright picture to the stored one."""
    return {6: 8, 8: 6}.get(orientation, orientation)


def turn_box(box: Sequence[float], orientation: int) -> list[float]:
    """Normalized x1, y1, x2, y2 of the stored picture as those of the upright picture; what follows them is kept."""
    turn = _POINTS[orientation]
    (left, top), (right, bottom) = turn(*box[:2]), turn(*box[2:4])
    return [min(left, right), min(top, bottom), max(left, right), max(top, bottom), *box[4:]]
