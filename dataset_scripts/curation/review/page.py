"""A sheet of sampled negatives for a person to mark: one HTML file with image, box, expression and negatives.

Marks are kept in the browser and saved as a JSON file, which ``fgclip review agreement`` reads.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import random
from pathlib import Path
from string import Template
from typing import Any

import pyarrow.parquet as pq
from tqdm.auto import tqdm

from modeling_fgclip.pixels import to_rgb

from ..engine.shards import record_shards
from ..language.checks import NegativeChecker
from ..language.text import clean

PAGE = Path(__file__).with_name("sheet.html")
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


def render(regions: list[dict[str, Any]], checker: NegativeChecker) -> str:
    """The page. Every text from the data is escaped; images are inside the file, so it can be sent to anyone."""
    cards, automatic = [], {}
    for region in tqdm(regions, desc="sheet", unit="region"):
        identity = hashlib.sha256(
            json.dumps([region["source_id"], region["bbox"], region["short_expr"]]).encode()
        ).hexdigest()[:12]
        reasons = checker.reasons(clean(region["short_expr"]), region["negatives"])
        rows = []
        for number, (negative, reason) in enumerate(zip(region["negatives"], reasons, strict=True)):
            key = f"{identity}/{number}"
            automatic[key] = "good" if reason is None else "bad"
            flag = f' <em title="automatic check">{html.escape(reason)}</em>' if reason else ""
            rows.append(
                f'<li data-key="{key}"><button data-mark="good">good</button><button data-mark="bad">bad</button> '
                f"{html.escape(negative)}{flag}</li>"
            )
        cards.append(
            f"<section><figure>{_picture(region)}</figure><div><h2>{html.escape(region['short_expr'])}</h2>"
            f"<p>{html.escape(region['long_expr'] or '')}</p><ol>{''.join(rows)}</ol>"
            f"<small>{html.escape(region['source_id'])}</small></div></section>"
        )
    name = hashlib.sha256("".join(automatic).encode()).hexdigest()[:12]
    data = json.dumps({"sheet": name, "automatic": automatic}).replace("<", "\\u003c")
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        cards="\n".join(cards), data=data, regions=len(regions), negatives=len(automatic)
    )


def _picture(region: dict[str, Any]) -> str:
    """The image, scaled down, with the box drawn over it."""
    image = to_rgb(region["image"])
    image.thumbnail((_WIDTH, _WIDTH))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    width, height = image.size
    x1, y1, x2, y2 = region["bbox"]
    box = (
        f'<rect x="{x1 * width:.1f}" y="{y1 * height:.1f}" width="{(x2 - x1) * width:.1f}" '
        f'height="{(y2 - y1) * height:.1f}"/>'
    )
    url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<image href="{url}" width="{width}" height="{height}"/>{box}</svg>'
    )
