"""From records to FineHARD's published layout: jsonfiles/*.json and images/coyo_image_0/00000/ID.jpg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dataset_scripts.atomic import write_json
from dataset_scripts.images import as_jpeg
from dataset_scripts.paths import PUBLISHED_PREFIX
from dataset_scripts.progress import progress_bar
from modeling_fgclip.pixels import open_image, to_rgb

from .engine.shards import record_shards

_PER_FOLDER = 1000


def published_record(record: dict[str, Any], path: str) -> dict[str, Any]:
    """A record as it is published (DESIGN section 5); `path` is where its image lies below images/.

    The published layout has one short caption; the list of several stands beside it.
    """
    return {
        "f_path": PUBLISHED_PREFIX + path,
        "caption": record["caption"],
        "short_caption": next(iter(record["short_captions"]), None),
        **({"short_captions": record["short_captions"]} if len(record["short_captions"]) > 1 else {}),
        "bbox_info": [
            {
                "bbox": [round(float(v), 5) for v in (*region["bbox"], region["score"])],
                "short_expr": region["short_expr"],
                "long_expr": region["long_expr"],
                "flag_short_neg": int(bool(region["negatives"])),
                **(
                    {"short_expr_negs": {str(i): text for i, text in enumerate(region["negatives"])}}
                    if region["negatives"]
                    else {}
                ),
            }
            for region in record["regions"]
        ],
    }


def export(folder: Path, root: Path) -> int:
    """Write all records of a run below `root`; returns how many. Files that exist are kept, so it can be continued.

    Raises:
        ValueError: there are no record shards.
    """
    number = 0
    for part, path in enumerate(progress_bar(record_shards(folder), desc="export", unit="shard")):
        target = root / "jsonfiles" / f"part-{part:05d}.json"
        rows = pq.ParquetFile(path)
        if target.is_file():
            number += rows.metadata.num_rows
            continue
        published = []
        for batch in rows.iter_batches(batch_size=100):
            for record in batch.to_pylist():
                place = f"coyo_image_0/{number // _PER_FOLDER:05d}/{number:09d}.jpg"
                _write_jpeg(record["image"]["bytes"], root / "images" / place)
                published.append(published_record(record, place))
                number += 1
        write_json(target, published)
    return number


def _write_jpeg(data: bytes, path: Path) -> None:
    """JPEGs keep their bytes; other formats are encoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = open_image(data)
    path.write_bytes(data if image.format == "JPEG" else as_jpeg(to_rgb(image)))
