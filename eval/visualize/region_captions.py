"""A region against several captions, several models side by side, normalized as table 7 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dataset_scripts.atomic import write_text
from dataset_scripts.pages import picture_url
from eval.adapters.base import ModelAdapter
from eval.embed import Embedder
from eval.images import Boxes, MemoryImage
from eval.report.document import Cell, Document, Section, Table
from eval.report.markdown import to_markdown
from eval.visualize.caption_figure import caption_figure
from eval.visualize.pages import LONGEST, NormalizedBox, with_box, write_page


def region_caption_scores(
    adapter: ModelAdapter,
    image: Image.Image,
    box: NormalizedBox,
    captions: Sequence[str],
    region_features: str = "dense",
) -> np.ndarray:
    """Cosines of a region with captions, stretched so that the lowest is 0 and the highest is 1 (table 7).

    Args:
        image: any size. box: normalized xyxy. captions: at least two.
    Returns:
        (captions,) float32.
    Raises:
        ValueError: fewer than two captions, or a bad box.
    """
    if len(captions) < 2:
        raise ValueError(f"a region is compared with at least two captions; got {len(captions)}.")
    embedder = Embedder(adapter, region_features=region_features, distributed=False, progress=False)
    region, _, _ = embedder.regions([MemoryImage(image)], [Boxes(np.array([box], np.float32))])
    scores = (embedder.texts(list(captions), "region") @ region[0]).numpy()
    return (scores - scores.min()) / max(float(scores.max() - scores.min()), 1e-12)


def caption_table(
    models: Mapping[str, ModelAdapter],
    image: Image.Image,
    box: NormalizedBox,
    captions: Sequence[str],
    region_features: str = "dense",
) -> Table:
    """Captions as rows, models as columns; the first caption is the true one."""
    columns = {
        name: region_caption_scores(adapter, image, box, captions, region_features) for name, adapter in models.items()
    }
    rows: list[list[Cell | str]] = []
    for number, caption in enumerate(captions):
        label = "origin" if number == 0 else str(number)
        rows.append([f"{label}: {caption}", *[Cell(f"{s[number]:.2f}", float(s[number])) for s in columns.values()]])
    return Table(["caption", *columns], rows, own={0})


def write_caption_table(
    folder: Path,
    models: Mapping[str, ModelAdapter],
    image: Image.Image,
    box: NormalizedBox,
    captions: Sequence[str],
    region_features: str = "dense",
) -> list[Path]:
    """Write captions.html, captions.md and captions.png: the image with its box, and the table."""
    table = caption_table(models, image, box, captions, region_features)
    title = "A region against captions"
    folder.mkdir(parents=True, exist_ok=True)
    caption_figure(folder / "captions.png", image, box, table, title, NOTE)
    picture = picture_url(with_box(image, box), LONGEST)
    write_page(folder / "captions.html", title, image=picture, table=table, note=NOTE)
    write_text(folder / "captions.md", to_markdown(Document(title, NOTE, [Section("Scores", [table])])))
    return [folder / name for name in ("captions.html", "captions.md", "captions.png")]


NOTE = "Cosine similarities of the region with every caption, stretched for each model: the lowest is 0, the highest is 1, as in table 7 of the paper."
