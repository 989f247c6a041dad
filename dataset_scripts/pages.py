"""HTML pages from Jinja2 templates, with their pictures inside.

What is put into a template is escaped, whoever wrote it; templates themselves hold no text of data.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from modeling_fgclip.pixels import to_rgb

# Templates lie beside the code that fills them, and are named by their place: "eval/report/report.html".
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, **values: Any) -> str:
    """The page that a template makes of values."""
    return TEMPLATES.get_template(template).render(**values)


def picture_url(image: Image.Image, side: int, quality: int = 85) -> str:
    """The address of an image that lies in the page itself, as a JPEG of at most `side` pixels."""
    image = to_rgb(image).copy()
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return _url("jpeg", file.getvalue())


def file_url(path: Path) -> str:
    """The address of a PNG file that lies in the page itself."""
    return _url("png", path.read_bytes())


def _url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
