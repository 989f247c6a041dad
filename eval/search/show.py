"""Hits as a table of text, as JSON, or as a page of pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from PIL import ImageDraw

from dataset_scripts.pages import picture_url, render
from eval.images import ImageSource
from eval.search.index import Hit

WHOLE = (0.0, 0.0, 1.0, 1.0)
THUMBNAIL = 320  # pixels of the longer side


def as_table(hits: Sequence[Hit]) -> str:
    """A line a hit: rank, cosine, name, and the box where only a part of the image matched."""
    lines = []
    for rank, hit in enumerate(hits, 1):
        where = "" if hit.box == WHOLE else "  box " + " ".join(f"{side:.2f}" for side in hit.box)
        lines.append(f"{rank:>3}  {hit.score:.4f}  {hit.name}{where}")
    return "\n".join(lines)


def as_json(hits: Sequence[Hit]) -> str:
    """A list of `{"rank", "score", "name", "box"}`; boxes are normalized xyxy."""
    rows = [{"rank": r, "score": hit.score, "name": hit.name, "box": list(hit.box)} for r, hit in enumerate(hits, 1)]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_html(hits: Sequence[Hit], title: str, images: Mapping[str, ImageSource]) -> str:
    """A page that holds everything it shows.

    Args:
        images: by name; a hit whose image is not among them, or cannot be read any more, is shown by its name alone.
    """
    found = [(hit, _picture(images[hit.name], hit) if hit.name in images else None) for hit in hits]
    return render("eval/search/hits.html", title=title, hits=found)


def _picture(source: ImageSource, hit: Hit) -> str | None:
    """The address of the image with the box that matched drawn on it; None if it cannot be read."""
    try:
        image = source.open().copy()
    except (OSError, ValueError):
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    if hit.box != WHOLE:
        width, height = image.size
        corners = [side * size for side, size in zip(hit.box, (width, height, width, height), strict=True)]
        ImageDraw.Draw(image).rectangle(corners, outline="red", width=2)
    return picture_url(image, THUMBNAIL)
