"""Images of a request: a URL, a data URL or base64, within limits."""

from __future__ import annotations

import base64
import binascii

from PIL import Image

from dataset_scripts.download import Downloader
from dataset_scripts.image_stores import MissingImage
from modeling_fgclip.pixels import BadImage, open_image, to_rgb

from .errors import BadRequest
from .limits import Limits


def read_image(text: str, limits: Limits, downloader: Downloader) -> Image.Image:
    """An upright RGB image.

    Raises:
        BadRequest: it cannot be had, is none, or is too large.
    """
    if text.startswith(("http://", "https://")):
        try:
            data = downloader.fetch(text)
        except MissingImage as error:
            raise BadRequest(f"the image behind the URL cannot be had: {error}") from None
    else:
        data = _decoded(text, limits)
    try:
        return to_rgb(open_image(data, limits.pixels))
    except BadImage as error:
        raise BadRequest(f"an image cannot be read: {error.reason}") from None


def _decoded(text: str, limits: Limits) -> bytes:
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise BadRequest("a data URL must be data:image/…;base64,…")
    if len(text) * 3 // 4 > limits.image_bytes:
        raise BadRequest(f"an image has more than {limits.image_bytes:,} bytes", 413)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("an image is neither an http(s) URL, a data URL nor base64") from None
