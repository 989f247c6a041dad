"""What both demos share: loading, safe uploads, heat maps, the way a Space is started."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Mapping, Sequence

import gradio as gr
import numpy as np
from PIL import Image

from eval.adapters.fgclip import FGCLIPAdapter
from eval.visualize.similarity import overlay, similarity_maps
from modeling_fgclip.pixels import BadImage, open_image, to_rgb

MAX_UPLOAD = "10mb"
MAX_PIXELS = 25_000_000
SHOWN_SIDE = 640  # pixels that a shown image has at most on its longer side
MAX_TEXT = 1_500  # characters, more than 248 tokens

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
  #results .grid-container, #maps .grid-container {grid-template-columns: repeat(2, minmax(0, 1fr)) !important}
}
#results .grid-wrap, #maps .grid-wrap {max-height: none !important}
#canvas img {width: 100% !important; height: auto !important; max-height: none !important}
.caption-label {white-space: normal !important; overflow: visible !important; max-width: calc(100% - 12px) !important}
.ranking {width: 100%; border-collapse: collapse}
.ranking, .ranking tr, .ranking td {border: none !important}
.ranking td {padding: 6px 4px; vertical-align: middle; overflow-wrap: anywhere}
.ranking .score {white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums}
.ranking .bar {height: 8px; border-radius: 4px; background: var(--primary-500)}
.ranking .best td {font-weight: 600}
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
