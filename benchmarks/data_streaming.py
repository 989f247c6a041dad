"""Streaming a large annotation set: time to the first batch, memory, records/s; against loading the JSON whole.

    python benchmarks/data_streaming.py --work /path/with/5GB --records 1000000

Writes a set in FineHARD's published layout (4 boxes a record, 10 negatives a box, about 3 kB a record; 1,000 images
that the records share), then measures each way in a process of its own. Prints one JSON object. CPU seconds stand
beside wall seconds, because the former say more on a machine that others use as well.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

from dataset_scripts.locking import replacing_folder

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
        with replacing_folder(layout) as part:
            (part / "jsonfiles").mkdir(parents=True)
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
    return sum(path.stat().st_size for path in (layout / "jsonfiles").iterdir())


class _Clock:
    """Wall and CPU seconds of this process."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @property
    def cpu(self) -> float:
        return time.process_time() - self._cpu

    def read(self) -> dict[str, float]:
        return {"wall_s": round(time.perf_counter() - self._wall, 2), "cpu_s": round(self.cpu, 2)}


def stream(layout: str, seconds: float) -> dict[str, Any]:
    """Batches of 64 decoded records for training, in the process itself."""
    clock = _Clock()
    from torchdata.stateful_dataloader import StatefulDataLoader

    from dataset_scripts.streaming import load_training_data

    imports, clock = clock.read(), _Clock()
    loader = StatefulDataLoader(load_training_data(layout, streaming=True), batch_size=64, collate_fn=list)
    first, count, memory = {}, 0, []
    for _ in loader:
        first = first or clock.read()
        count += 64
        memory.append(_resident())
        if clock.cpu > seconds:
            break
    quarter = max(1, len(memory) // 4)
    return {
        "imports": imports,
        "first batch after the imports": first,
        "records": count,
        "records_per_cpu_s": round(count / clock.cpu),
        "all": clock.read(),
        "resident_MB_first_quarter": round(max(memory[:quarter])),
        "resident_MB_last_quarter": round(max(memory[-quarter:])),
    }


def annotations(layout: str, files: int) -> dict[str, Any]:
    """The annotations of the first files, cleaned, without images."""
    from dataset_scripts.annotations import read_published
    from dataset_scripts.records import clean_record
    from dataset_scripts.report import Report

    clock, report, memory = _Clock(), Report(), []
    for path in sorted(Path(layout, "jsonfiles").iterdir())[:files]:
        for _, _, source_id, published in read_published(str(path), report, {}):
            clean_record(published, source_id, report)
        memory.append(_resident())
    return {
        "records": report.kept["records read"],
        "boxes": report.kept["regions"],
        "records_per_cpu_s": round(report.kept["records read"] / clock.cpu),
        "all": clock.read(),
        "resident_MB_after_first_file": round(memory[0]),
        "resident_MB_after_last_file": round(memory[-1]),
    }


def whole(layout: str, files: int) -> dict[str, Any]:
    """What published training does: all JSON in a list. Only some files, because the whole needs tens of gigabytes."""
    before, clock = _resident(), _Clock()
    records: list[dict] = []
    for path in sorted(Path(layout, "jsonfiles").iterdir())[:files]:
        records += json.loads(path.read_text())
    grown = _resident() - before
    return {
        "records": len(records),
        "records_per_cpu_s": round(len(records) / clock.cpu),
        "all": clock.read(),
        "resident_MB": round(grown),
        "resident_MB_per_million_records": round(grown / len(records) * 1e6),
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
    parser.add_argument("--seconds", type=float, default=60, help="CPU seconds of streaming")
    parser.add_argument("--read-files", type=int, default=20, help="annotation files to read through")
    parser.add_argument("--whole-files", type=int, default=2, help="annotation files to load whole")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    size = write_layout(options.work, options.records, options.files)
    layout = str(options.work / f"layout-{options.records}")
    result = {
        "annotation_MB": round(size / 1e6),
        "stream for training": _run(stream, layout, options.seconds),
        "annotations streamed": _run(annotations, layout, options.read_files),
        "JSON loaded whole": _run(whole, layout, options.whole_files),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
