"""Data in FineHARD's layout to curate, and the records that a run leaves."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from tests.dataset_scripts.curation.curation_models import scene


def published(root: Path, number: int) -> Path:
    """Scenes in FineHARD's layout with a region each."""
    folder = root / "images" / "coyo_image_0" / "00000"
    folder.mkdir(parents=True)
    records = []
    for i in range(number):
        image, caption = scene(i)
        image.save(folder / f"{i:03d}.jpg")
        expression = caption.removeprefix("There is ").split(" on ")[0]
        box = {
            "bbox": [0.1, 0.1, 0.7, 0.7, 0.9],
            "short_expr": expression,
            "long_expr": expression,
            "flag_short_neg": 0,
        }
        path = f"grit-20m/data-12m/coyo_image_0/00000/{i:03d}.jpg"
        records.append({"f_path": path, "caption": caption, "short_caption": caption, "bbox_info": [box]})
    (root / "jsonfiles").mkdir()
    (root / "jsonfiles" / "part-000.json").write_text(json.dumps(records))
    return root


def read(output: Path) -> list[dict]:
    return [row for path in sorted((output / "records").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
