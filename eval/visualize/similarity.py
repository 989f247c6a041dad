"""Dense similarity maps of phrases over images (figures 4 and 5 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate, normalize

from eval.adapters.base import ModelAdapter
from modeling_fgclip.pixels import to_rgb


@torch.no_grad()
def similarity_maps(adapter: ModelAdapter, image: Image.Image, phrases: Sequence[str]) -> np.ndarray:
    """Cosine of every patch with every phrase.

    Args:
        adapter: a model with dense features.
        image: any size; squashed to the model's resolution.
        phrases: P short texts.
    Returns:
        (P, h, w) float32 in [-1, 1].
    Raises:
        ValueError: no phrase, or a model without dense features.
    """
    if not phrases:
        raise ValueError("similarity maps need at least one phrase.")
    device = next(adapter.model.parameters()).device
    training = adapter.model.training
    adapter.model.eval()
    inputs = _on(adapter.preprocess([to_rgb(image)], squash=True), device)
    dense = normalize(adapter.encode_dense(inputs)[0].float(), dim=-1)  # (h, w, D)
    kind = "region" if adapter.region_text else "short"
    tokens = _on(adapter.tokenize(list(phrases), kind), device)
    texts = normalize(adapter.encode_texts(tokens, kind).float(), dim=-1)  # (P, D)
    adapter.model.train(training)
    return torch.einsum("hwd,pd->phw", dense, texts).cpu().numpy()


def _on(inputs: Mapping, device: torch.device) -> dict:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


def overlay(image: Image.Image, similarity: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """The map over the image: warm (yellow) where the similarity is high, each map stretched to its own range.

    Args:
        image: RGB, any size (height H, width W). similarity: (h, w). opacity: of the map, 0 to 1.
    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    from eval.visualize.figures import require_matplotlib

    colors = require_matplotlib().colormaps["viridis"]
    low, high = float(similarity.min()), float(similarity.max())
    stretched = (similarity - low) / max(high - low, 1e-12)
    grid = torch.from_numpy(stretched.astype(np.float32))[None, None]
    full = (
        interpolate(grid, size=(image.height, image.width), mode="bicubic", align_corners=False)[0, 0]
        .clamp(0, 1)
        .numpy()
    )
    return (1 - opacity) * np.asarray(to_rgb(image), np.float32) / 255 + opacity * colors(full)[..., :3].astype(
        np.float32
    )


def similarity_figure(
    path: str | Path,
    models: Mapping[str, ModelAdapter] | ModelAdapter,
    images: Sequence[Image.Image],
    phrases: Sequence[str] | Sequence[Sequence[str]],
    title: str = "",
) -> Path:
    """Save a PNG: a row for every image (and model), the image first, then one map a phrase.

    Args:
        path: where to write it.
        models: one adapter, or heading → adapter, side by side row by row as in figure 4.
        images: N images.
        phrases: P phrases for all images, or a list of phrases for each.
    Returns:
        `path`.
    Raises:
        ValueError: no image, or lists of phrases that do not match the images.
    """
    from eval.visualize.figures import require_matplotlib

    require_matplotlib()
    from matplotlib.figure import Figure

    models = {"": models} if isinstance(models, ModelAdapter) else dict(models)
    per_image = (
        [list(phrases)] * len(images) if phrases and isinstance(phrases[0], str) else [list(p) for p in phrases]
    )
    if not images or len(per_image) != len(images):
        raise ValueError(
            f"needs images, and phrases for all or for each of them; got {len(images)} images and {len(per_image)} lists."
        )
    columns = 1 + max(len(p) for p in per_image)
    rows = len(images) * len(models)
    figure = Figure(figsize=(2.3 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (image, own) in enumerate(zip(images, per_image, strict=True)):
        for offset, (heading, adapter) in enumerate(models.items()):
            row = axes[number * len(models) + offset]
            row[0].imshow(to_rgb(image))
            row[0].set_title(heading, fontsize=9)
            for axis, phrase, similarity in zip(row[1:], own, similarity_maps(adapter, image, own), strict=False):
                axis.imshow(overlay(image, similarity))
                axis.set_title(wrapped(phrase), fontsize=8)
    if title:
        figure.suptitle(title)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def wrapped(text: str, width: int = 26) -> str:
    """A caption in lines of at most `width` letters; dollar signs are no formulas."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width)).replace("$", r"\$")
