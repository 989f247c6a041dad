"""Shards on disk: parquet files that appear whole or not at all, with what was counted in their metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, List, Value

from dataset_scripts.atomic import replacing
from dataset_scripts.schema import FEATURES

# What travels from step to step: a record without its image, with the expressions and the reasons of failures.
# `sources` says of each of a region's negatives who made it.
ANNOTATIONS = Features(
    {
        **{name: FEATURES[name] for name in ("source_id", "caption", "short_captions")},
        "regions": List({**FEATURES["regions"].feature, "sources": List(Value("string"))}),
        "expressions": List({"short": Value("string"), "long": Value("string")}),
        "failures": List(Value("string")),
    }
)
_STATISTICS = b"curation_statistics"


def shard_name(index: int) -> str:
    return f"{index:06d}.parquet"


def write_shard(path: Path, rows: list[dict[str, Any]], features: Features, statistics: dict[str, Any]) -> None:
    """Write `rows` and `statistics` to `path` in one rename, so that a kill leaves the old state or the new."""
    schema = features.arrow_schema
    table = pa.Table.from_pylist(rows, schema=schema)
    table = table.replace_schema_metadata({**schema.metadata, _STATISTICS: json.dumps(statistics).encode()})
    with replacing(path) as part:
        # few rows a group: images are large, and a viewer or a streaming reader takes one group at a time
        pq.write_table(table, part, row_group_size=100 if "image" in features else None)


def record_shards(folder: Path) -> list[Path]:
    """Record shards in the output folder of a run, or in a folder that holds them alone.

    Raises:
        ValueError: there are none.
    """
    files = sorted((folder / "records" if (folder / "records").is_dir() else folder).glob("*.parquet"))
    if not files:
        raise ValueError(f"{folder} holds no .parquet shards; give the output folder of the pipeline.")
    return files


def read_rows(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return pq.read_table(path, columns=columns).to_pylist()


def read_statistics(path: Path) -> dict[str, Any]:
    """What :func:`write_shard` was given; reads only the footer."""
    return json.loads(pq.read_schema(path).metadata[_STATISTICS])
