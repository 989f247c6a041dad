"""Streaming a large annotation set: time to the first batch, memory, records/s; against loading the JSON whole.

    python benchmarks/data_streaming.py --work /path/with/5GB --records 1000000

Writes a set in FineHARD's published layout (4 boxes a record, 10 negatives a box, about 3 kB a record; 1,000 images
that the records share), then measures each way in a process of its own. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

IMAGES = 1000


def _resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_layout(root: Path, records: int, files: int) -> int:
    """Writes the set once; returns its annotation bytes."""
    from dataset_scripts.sample import generate_sample

    sample = generate_sample(root / "sample", train=IMAGES, test=1)
    layout = root / f"layout-{records}"
    if not layout.is_dir():
        part = root / f".layout-{records}"
        (part / "jsonfiles").mkdir(parents=True, exist_ok=True)
        (part / "images").symlink_to(sample / "train" / "images")
        (source,) = (sample / "train" / "jsonfiles").glob("*.json")
        texts = []
        for record in json.loads(source.read_text()):
            record["bbox_info"] = (record["bbox_info"] * 2)[:4]
            record["caption"] = " ".join([record["caption"]] * 2)
            texts.append(json.dumps(record))
        for number in range(files):
            count = records // files
            with open(part / "jsonfiles" / f"part-{number:03d}.json", "w") as file:
                file.write("[" + ", ".join(texts[(number + i) % IMAGES] for i in range(count)) + "]")
        part.rename(layout)
    return sum(path.stat().st_size for path in (layout / "jsonfiles").iterdir())


def stream(layout: str, seconds: float) -> dict[str, Any]:
    """Batches of 64 decoded records for training, through one loader worker."""
    start = time.perf_counter()
    from torchdata.stateful_dataloader import StatefulDataLoader

    from dataset_scripts.streaming import load_training_data

    imported = time.perf_counter()
    loader = StatefulDataLoader(load_training_data(layout, streaming=True), batch_size=64, collate_fn=list)
    batches, first, count, memory = iter(loader), 0.0, 0, []
    for _ in batches:
        now = time.perf_counter() - imported
        first = first or now
        count += 64
        memory.append(_resident())
        if now > seconds:
            break
    return {
        "import_s": round(imported - start, 1),
        "first_batch_s": round(first, 2),
        "records": count,
        "records_per_s": round(count / now),
        "resident_MB_first_quarter": round(max(memory[: max(1, len(memory) // 4)])),
        "resident_MB_last_quarter": round(max(memory[-max(1, len(memory) // 4) :])),
    }


def annotations(layout: str) -> dict[str, Any]:
    """Every annotation of the set, cleaned, without images."""
    from dataset_scripts.annotations import read_published
    from dataset_scripts.records import clean_record
    from dataset_scripts.report import Report

    start, report, memory = time.perf_counter(), Report(), []
    for path in sorted(Path(layout, "jsonfiles").iterdir()):
        for _, _, source_id, published in read_published(str(path), report, {}):
            clean_record(published, source_id, report)
        memory.append(_resident())
    elapsed = time.perf_counter() - start
    return {
        "records": report.kept["records read"],
        "boxes": report.kept["regions"],
        "seconds": round(elapsed, 1),
        "records_per_s": round(report.kept["records read"] / elapsed),
        "resident_MB_after_first_file": round(memory[0]),
        "resident_MB_after_last_file": round(memory[-1]),
    }


def whole(layout: str, files: int) -> dict[str, Any]:
    """What published training does: all JSON in a list. Only some files, because the whole needs tens of gigabytes."""
    before, start = _resident(), time.perf_counter()
    records: list[dict] = []
    for path in sorted(Path(layout, "jsonfiles").iterdir())[:files]:
        records += json.loads(path.read_text())
    elapsed = time.perf_counter() - start
    grown = _resident() - before
    return {
        "records": len(records),
        "seconds": round(elapsed, 1),
        "resident_MB": round(grown),
        "resident_MB_per_100k_records": round(grown / len(records) * 1e5),
    }


def _run(function: Any, *arguments: Any) -> dict[str, Any]:
    """In a fresh process, so that memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the generated set, kept for later runs")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20, help="annotation files")
    parser.add_argument("--seconds", type=float, default=60, help="of streaming")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    size = write_layout(options.work, options.records, options.files)
    layout = str(options.work / f"layout-{options.records}")
    result = {
        "annotation_MB": round(size / 1e6),
        "stream for training": _run(stream, layout, options.seconds),
        "all annotations, streamed": _run(annotations, layout),
        "JSON loaded whole, first 2 files": _run(whole, layout, 2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
