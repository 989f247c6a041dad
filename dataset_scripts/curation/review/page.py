"""A sheet of sampled negatives for a person to mark: one HTML file with image, box, expression and negatives.

Marks are kept in the browser and saved as a JSON file, which ``fgclip review agreement`` reads.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dataset_scripts.pages import picture_url, render
from dataset_scripts.progress import progress_bar
from modeling_fgclip.pixels import to_rgb

from ..engine.shards import record_shards
from ..language.checks import NegativeChecker
from ..language.text import clean

_WIDTH = 320  # pixels of an image on the sheet


def sample_regions(folder: Path, negatives: int, seed: int = 0) -> list[dict[str, Any]]:
    """Regions drawn at random until they hold `negatives` negatives: image bytes, bbox, texts, source_id.

    Raises:
        ValueError: there are no records, or no region of them has negatives.
    """
    places: list[tuple[Path, int, int, int]] = []
    for path in record_shards(folder):
        for row, record in enumerate(pq.read_table(path, columns=["regions"]).to_pylist()):
            places += [(path, row, i, len(r["negatives"])) for i, r in enumerate(record["regions"]) if r["negatives"]]
    if not places:
        raise ValueError(
            f"No region in {folder} has negatives; give a folder of records that the negatives step made."
        )
    random.Random(seed).shuffle(places)
    chosen, number = [], 0
    for place in places:
        if number >= negatives:
            break
        chosen.append(place)
        number += place[3]
    found: dict[tuple[Path, int, int], dict[str, Any]] = {}
    for path in sorted({path for path, *_ in chosen}):
        table = pq.read_table(path, columns=["image", "regions", "source_id"])
        for _, row, index, _ in (place for place in chosen if place[0] == path):
            record = table.slice(row, 1).to_pylist()[0]
            found[path, row, index] = {
                "image": record["image"]["bytes"],
                "source_id": record["source_id"],
                **record["regions"][index],
            }
    return [found[path, row, index] for path, row, index, _ in chosen]


def sheet(regions: list[dict[str, Any]], checker: NegativeChecker) -> str:
    """The page; images are inside the file, so it can be sent to anyone."""
    cards, automatic = [], {}
    for region in progress_bar(regions, desc="sheet", unit="region"):
        identity = hashlib.sha256(
            json.dumps([region["source_id"], region["bbox"], region["short_expr"]]).encode()
        ).hexdigest()[:12]
        reasons = checker.reasons(clean(region["short_expr"]), region["negatives"])
        keys = [f"{identity}/{number}" for number in range(len(reasons))]
        automatic |= {key: "good" if reason is None else "bad" for key, reason in zip(keys, reasons, strict=True)}
        negatives = list(zip(keys, region["negatives"], reasons, strict=True))
        cards.append({**region, **_picture(region), "negatives": negatives})
    name = hashlib.sha256("".join(automatic).encode()).hexdigest()[:12]
    data = {"sheet": name, "automatic": automatic}
    return render("dataset_scripts/curation/review/sheet.html", cards=cards, negatives=len(automatic), data=data)


def _picture(region: dict[str, Any]) -> dict[str, Any]:
    """The image, scaled down, and its box in its pixels."""
    image = to_rgb(region["image"])
    image.thumbnail((_WIDTH, _WIDTH))
    (width, height), (x1, y1, x2, y2) = image.size, region["bbox"]
    box = {"x": x1 * width, "y": y1 * height, "w": (x2 - x1) * width, "h": (y2 - y1) * height}
    return {"picture": picture_url(image, _WIDTH, quality=80), "width": width, "height": height, **box}
