"""What both demos share: loading, safe uploads, heat maps, the way a Space is started."""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from eval.adapters.fgclip import FGCLIPAdapter
from eval.visualize.similarity import overlay, similarity_maps
from modeling_fgclip.pixels import BadImage, open_image, to_rgb

MAX_UPLOAD = "10mb"
MAX_PIXELS = 25_000_000
SHOWN_SIDE = 640  # pixels that a shown image has at most on its longer side
COLORS = ("#e6194b", "#0082c8", "#3cb44b", "#f58231", "#911eb4", "#008080", "#9a6324", "#000075")
BOXES = "Boxes in percent of the image: left top right bottom, one a line"
MAX_TEXT = 1_500  # characters, more than 248 tokens

Box = tuple[float, float, float, float]  # left, top, right, bottom as fractions of the image
Point = tuple[float, float]

# Pillow refuses what claims more, instead of warning, wherever gradio itself opens an upload.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)

# Columns stack on a phone; touch targets are large enough for a thumb.
CSS = """
.gradio-container {max-width: 1100px !important; margin: 0 auto !important; padding: 12px !important}
button {min-height: 44px}
@media (max-width: 640px) {
  .gradio-container {padding: 6px !important}
  h1 {font-size: 1.35rem !important}
  #results .grid-container, #maps .grid-container {grid-template-columns: minmax(0, 1fr) !important}
}
#results .grid-wrap, #maps .grid-wrap {max-height: none !important}
#results .thumbnail-lg, #maps .thumbnail-lg {aspect-ratio: auto !important; height: auto !important}
#results .thumbnail-lg, #maps .thumbnail-lg {display: flex !important; flex-direction: column; align-items: stretch}
#results .thumbnail-lg img, #maps .thumbnail-lg img {height: auto !important}
#canvas img {width: 100% !important; height: auto !important; max-height: none !important}
.caption-label {position: static !important; white-space: normal !important; overflow: visible !important}
.caption-label {max-width: 100% !important; border: none !important; text-align: left}
.ranking {width: 100%; border-collapse: collapse; margin-bottom: 8px}
.ranking, .ranking tr, .ranking td, .ranking th {border: none !important}
.ranking caption {text-align: left; font-weight: 600; padding: 6px 4px}
.ranking th {font-weight: 400; font-size: .85em; opacity: .8; padding: 0 4px; text-align: right}
.ranking th:first-child {text-align: left}
.ranking td {padding: 6px 4px; vertical-align: middle; overflow-wrap: anywhere}
.ranking .score {white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums}
.ranking .bar {height: 8px; border-radius: 4px; background: var(--primary-500)}
.ranking .best td {font-weight: 600}
.hint {opacity: .8; font-size: .9em}
#canvas img {cursor: crosshair}
"""


def arguments(description: str, optional: Mapping[str, str] | None = None, **more: str) -> argparse.Namespace:
    """Command line of a demo; in a Space, where there is none, the variables FGCLIP_MODEL, … and gradio's own.

    Args:
        description: of the demo.
        optional: sources that may be left out, name → help.
        more: further sources, name → help.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, text in {"model": "FG-CLIP checkpoint: folder or Hub id", **more}.items():
        given = os.environ.get(f"FGCLIP_{name.upper()}")
        parser.add_argument(f"--{name}", default=given, required=not given, help=text)
    for name, text in (optional or {}).items():
        parser.add_argument(f"--{name}", default=os.environ.get(f"FGCLIP_{name.upper()}"), help=text)
    port, host = os.environ.get("GRADIO_SERVER_PORT", "7860"), os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    parser.add_argument("--port", type=int, default=int(port))
    parser.add_argument("--host", default=host, help="0.0.0.0 to be reached from other machines")
    return parser.parse_args()


def load(model: str) -> FGCLIPAdapter:
    """The checkpoint, ready for queries."""
    adapter = FGCLIPAdapter.from_pretrained(model)
    adapter.model.eval()
    return adapter


def open_upload(path: str | None) -> Image.Image:
    """An uploaded image, upright and in RGB, reduced to what is shown.

    Raises:
        gr.Error: without an image, for something else than an image, and for one with too many pixels.
    """
    if path is None:
        raise gr.Error("Choose an image first.")
    try:
        image = open_image(path, MAX_PIXELS)
        image.draft("RGB", (2 * SHOWN_SIDE, 2 * SHOWN_SIDE))
        return shown(to_rgb(image))
    except BadImage as error:
        if "bomb" in error.reason:
            raise gr.Error(f"This image has more than {MAX_PIXELS // 1_000_000} million pixels.") from None
        raise gr.Error("This file cannot be read as an image.") from None
    except OSError:
        raise gr.Error("This file cannot be read as an image.") from None


def shown(image: Image.Image) -> Image.Image:
    """A copy that is at most SHOWN_SIDE long."""
    copy = image.copy()
    copy.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    return copy


def clean_text(text: str, what: str) -> str:
    """The text without surrounding blanks.

    Raises:
        gr.Error: for an empty or far too long one.
    """
    text = (text or "").strip()
    if not text:
        raise gr.Error(f"Type {what} first.")
    if len(text) > MAX_TEXT:
        raise gr.Error(f"This text has {len(text)} characters; at most {MAX_TEXT} are read.")
    return text


def boxes_of(text: str) -> list[Box]:
    """What is written about boxes, as fractions of the image.

    Raises:
        gr.Error: a line that is no box.
    """
    boxes = []
    for line in filter(str.strip, (text or "").splitlines()):
        try:
            left, top, right, bottom = (float(word) / 100 for word in line.replace(",", " ").split())
        except ValueError:
            raise gr.Error(f"A box is four numbers, left top right bottom in percent; this is {line!r}.") from None
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise gr.Error(f"The box {line!r} is no part of the image: left below right, top below bottom, 0 to 100.")
        boxes.append((left, top, right, bottom))
    if len(boxes) > len(COLORS):
        raise gr.Error(f"At most {len(COLORS)} boxes; these are {len(boxes)}.")
    return boxes


def tapped(corner: Point | None, text: str, point: Point) -> tuple[Point | None, str]:
    """The first corner of a box that is not finished, and the text of all boxes, after a tap.

    Args:
        corner, point: fractions of the image.
    """
    if corner is None:
        return point, text
    left, right = sorted((corner[0], point[0]))
    top, bottom = sorted((corner[1], point[1]))
    if min(right - left, bottom - top) < 0.01:
        gr.Warning("This box is smaller than a hundredth of the image; tap two opposite corners.")
        return None, text
    line = " ".join(f"{100 * side:.1f}" for side in (left, top, right, bottom))
    return None, "\n".join(filter(None, [(text or "").strip(), line]))


def drawn(image: Image.Image, boxes: Sequence[Box], corner: Point | None = None) -> Image.Image:
    """The image with numbered boxes; a small one is enlarged, so that a thumb can place corners."""
    picture = ImageOps.contain(image, (SHOWN_SIDE, SHOWN_SIDE))
    pen = ImageDraw.Draw(picture)
    width = max(2, picture.width // 200)
    for number, (box, color) in enumerate(zip(boxes, COLORS, strict=False), 1):
        x1, y1, x2, y2 = (side * size for side, size in zip(box, picture.size * 2, strict=True))
        pen.rectangle((x1, y1, x2, y2), outline=color, width=width)
        pen.rectangle((x1, y1, x1 + 16, y1 + 16), fill=color)
        pen.text((x1 + 5, y1 + 2), str(number), fill="white")
    if corner is not None:
        x, y = corner[0] * picture.width, corner[1] * picture.height
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=COLORS[len(boxes) % len(COLORS)])
    return picture


def beside(photograph: Image.Image, other: Image.Image) -> Image.Image:
    """Two pictures of one height, side by side."""
    other = other.resize((round(other.width * photograph.height / other.height), photograph.height))
    both = Image.new("RGB", (photograph.width + 8 + other.width, photograph.height), "white")
    both.paste(photograph, (0, 0))
    both.paste(other, (photograph.width + 8, 0))
    return both


def saved(page: str, name: str) -> str:
    """A page as a file that the browser can be given; gradio removes its folder when the demo ends."""
    folder = Path(tempfile.mkdtemp())
    (folder / name).write_text(page, encoding="utf-8")
    return str(folder / name)


def heat_maps(adapter: FGCLIPAdapter, image: Image.Image, phrases: Sequence[str]) -> list[Image.Image]:
    """The image under the similarity of each phrase, warm where it is high."""
    pictures = []
    for similarity in similarity_maps(adapter, image, phrases):
        colors = Image.fromarray((255 * overlay(image, similarity, opacity=1)).astype(np.uint8))
        stretched = (similarity - similarity.min()) / max(float(np.ptp(similarity)), 1e-12)
        # The image stays as it is where the phrase is not.
        strength = Image.fromarray((180 * stretched).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
        pictures.append(Image.composite(colors, image, strength))
    return pictures


def launch(demo: gr.Blocks, args: argparse.Namespace) -> None:
    """Serves the demo; errors that are not meant for users stay in the log."""
    demo.queue(max_size=32).launch(
        server_name=args.host,
        server_port=args.port,
        max_file_size=MAX_UPLOAD,
        show_error=False,
        css=CSS,
        theme=gr.themes.Soft(primary_hue="blue"),
        footer_links=[],
    )
