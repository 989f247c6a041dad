"""The dataset card: everything in it comes from the shards' manifests."""

from __future__ import annotations

from typing import Any

import yaml
from datasets import Features, Image, Value

from dataset_scripts.schema import FEATURES

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_FIELDS = {
    "image": "the picture, RGB, upright",
    "caption": "long caption, several sentences; may be null",
    "short_captions": "list of sentences, each about the whole picture; may be empty",
    "regions": "list of `bbox` (x1, y1, x2, y2 as fractions of width and height), `score`, `short_expr`, `long_expr` and "
    "`negatives` (wrong versions of `short_expr`); may be empty",
    "source_id": "name of the record in its source",
}


def _features(shard_format: str) -> Features:
    if shard_format == "parquet":
        return FEATURES
    # datasets takes the types of tar files from the first samples, whose lists may be empty, unless a card says them.
    rest = {name: feature for name, feature in FEATURES.items() if name != "image"}
    return Features({"jpg": Image(), "json": rest, "__key__": Value("string"), "__url__": Value("string")})


def _metadata(manifests: dict[str, dict[str, Any]], license_id: str, language: str) -> dict[str, Any]:
    total = sum(manifest["totals"]["records"] for manifest in manifests.values())
    formats = {manifest["settings"]["shard_format"] for manifest in manifests.values()}
    if len(formats) > 1:
        raise ValueError(
            f"the splits are in different formats {sorted(formats)}; a repository has to have one: convert again"
        )
    (shard_format,) = formats
    suffix = "parquet" if shard_format == "parquet" else "tar"
    size = next((name for limit, name in _SIZES if total < limit), "n>10M")
    splits = [
        {"name": split, "num_bytes": manifest["totals"]["bytes"], "num_examples": manifest["totals"]["records"]}
        for split, manifest in manifests.items()
    ]
    data_files = [{"split": split, "path": f"data/{split}-*.{suffix}"} for split in manifests]
    return {
        "license": license_id,
        "language": [language],
        "task_categories": ["zero-shot-image-classification", "image-to-text", "zero-shot-object-detection"],
        "tags": ["clip", "fine-grained", "region-captions", "hard-negatives"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": data_files}],
        "dataset_info": {
            "features": _features(shard_format)._to_yaml_list(),
            "splits": splits,
            "download_size": sum(split["num_bytes"] for split in splits),
            "dataset_size": sum(split["num_bytes"] for split in splits),
        },
    }


def _left_out(manifest: dict[str, Any]) -> list[str]:
    problems = {**manifest["annotations"]["problems"], **manifest["images"]["problems"]}
    return [f"| {reason} | {count:,} |" for reason, count in sorted(problems.items(), key=lambda item: -item[1])]


def dataset_card(repo_id: str, manifests: dict[str, dict[str, Any]], license_id: str, language: str = "en") -> str:
    """README.md of the data set: metadata that ``load_dataset`` reads, features, statistics, provenance, preview.

    Args:
        repo_id: ``owner/name``.
        manifests: by split, as :func:`~dataset_scripts.shards.read_manifests` gives them.
        license_id: as the Hub names licences.
        language: of the texts, ISO 639.

    Raises:
        ValueError: the splits are in different formats.
    """
    front = yaml.safe_dump(_metadata(manifests, license_id, language), sort_keys=False, allow_unicode=True)
    lines = [
        "---",
        front.rstrip(),
        "---",
        "",
        f"# {repo_id.split('/')[-1]}",
        "",
        "Images with long and short captions, region boxes with expressions, and hard negatives, in the record of "
        "[FG-CLIP](https://arxiv.org/abs/2505.05071).",
        "",
        "![Examples with their boxes](preview.png)",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'records = load_dataset("{repo_id}", split="{next(iter(manifests))}", streaming=True)',
        "```",
        "",
        "| field | what |",
        "|---|---|",
        *(f"| `{name}` | {what} |" for name, what in _FIELDS.items()),
        "",
        "| split | records | regions | hard negatives | shards | MB |",
        "|---|---|---|---|---|---|",
    ]
    for split, manifest in manifests.items():
        totals = manifest["totals"]
        counts = (totals["records"], totals["regions"], totals["negatives"], len(manifest["shards"]))
        lines.append(f"| {split} | {' | '.join(f'{n:,}' for n in counts)} | {totals['bytes'] / 1e6:,.1f} |")
    lines += ["", "## Where it comes from", ""]
    for split, manifest in manifests.items():
        settings = ", ".join(f"{name} {value}" for name, value in manifest["settings"].items())
        lines.append(
            f"`{split}`: from `{manifest['source']}`, revision `{manifest['revision']}`, written with {settings}. Records "
            "are shuffled. Checksums of the shards are in the manifest beside them."
        )
        if left_out := _left_out(manifest):
            lines += ["", "Left out or changed:", "", "| reason | count |", "|---|---|", *left_out]
        lines.append("")
    return "\n".join(lines)
