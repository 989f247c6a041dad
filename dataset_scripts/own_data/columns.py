"""Which column of somebody's table holds what; apart from the work, as command lines need its defaults."""

from __future__ import annotations

from dataclasses import dataclass

from dataset_scripts.records import BoxFormat

ROLES = ("image", "caption", "short_caption", "regions", "source_id", "width", "height")


@dataclass(frozen=True)
class Columns:
    """Which column holds what; a dot reaches into a nested one, such as ``json.caption``.

    A caption may be a text, a list of texts, or the text of such a list. ``regions`` is a list of objects (or an object
    of parallel lists, or the JSON text of either) with ``bbox``, ``short_expr`` or ``category``, ``long_expr``,
    ``negatives`` and ``score``, of which the box and one expression are needed. ``width`` and ``height`` are the size
    in pixels that the boxes refer to, where it is not that of the image as it lies there.
    """

    image: str = "image"
    caption: str | None = "caption"
    short_caption: str | None = None
    regions: str | None = None
    source_id: str | None = None
    width: str | None = None
    height: str | None = None
    box_format: BoxFormat = "normalized"

    def __post_init__(self) -> None:
        if (self.width is None) != (self.height is None):
            raise ValueError(
                f"the column for the width is {self.width!r} and for the height {self.height!r}; give both or none"
            )

    def names(self) -> list[str]:
        """The columns that are named."""
        return [name for role in ROLES if (name := getattr(self, role)) is not None]
