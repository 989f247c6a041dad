"""From stored records to collated batches: images a second and core, and the share of a step that waits for them.

python -m dataset_scripts.sample --output DIR --train 1000 --test 16
python -m dataset_scripts.convert DIR/train SHARDS --shard-size 250
python -m benchmarks.input_pipeline SHARDS DIR/train

Reads shards as a stream and the published layout map-style and as a stream, decodes, resizes to the model's size,
tokenizes and collates stage-2 batches in this process, by its CPU time. `--step-seconds`, the measured time of a step of
this batch size on the device to be fed, gives the worker processes that keep it busy; with `--workers` the waiting share of
such a step is measured (the step sleeps: an accelerator leaves the cores to the workers).
"""

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from benchmarks.measure import save, table
from dataset_scripts.streaming import load_training_data
from dataset_scripts.streaming.even import BLOCK
from modeling_fgclip import FGCLIPProcessor
from modeling_fgclip.text_checks import check_vocabulary
from training.architectures import ARCHITECTURES, architecture
from training.data.collator import FGCLIPCollator
from training.data.loading import DrawnRecords
from training.data.tokenizer import train_tokenizer


def make_collator(model: str, tokenizer: str | None) -> FGCLIPCollator:
    size = architecture(model).vision_config.image_size
    vocabulary = (
        check_vocabulary(CLIPTokenizer.from_pretrained(tokenizer))
        if tokenizer
        else train_tokenizer(["a photo"] * 2, 600)
    )
    processor = FGCLIPProcessor(CLIPImageProcessorPil(size={"height": size, "width": size}), vocabulary)
    return FGCLIPCollator(processor)


def sources(root: str) -> Iterator[tuple[str, Any]]:
    """Every way to read a root: name, data set."""
    name = "/".join(Path(root).parts[-2:])
    if (Path(root) / "jsonfiles").is_dir():
        yield f"{name} (layout, map-style)", DrawnRecords(load_training_data([root], streaming=False))
        yield f"{name} (layout, stream)", load_training_data([root], streaming=True)
    else:
        yield f"{name} (shards, stream)", load_training_data([root], streaming=True)


def make_loader(data: Any, collator: FGCLIPCollator, batch_size: int, batches: int, workers: int) -> DataLoader:
    settings: dict[str, Any] = {"num_workers": workers, "collate_fn": collator}
    if isinstance(data, DrawnRecords):
        keys = [[(i % len(data), 0) for i in range(n * batch_size, (n + 1) * batch_size)] for n in range(batches)]
        return DataLoader(data, batch_sampler=keys, **settings)
    return DataLoader(data, batch_size=batch_size, drop_last=True, **settings)


def rate(loader: DataLoader, batches: int, warm_up: int) -> dict[str, float]:
    """Images a CPU second without workers, and the seconds of reading and of collating an image.

    Streams read a block ahead: batches of the first block are not counted, so that as much is read as is collated.
    """
    collate, spent = loader.collate_fn, 0.0

    def timed_collate(records: list[dict[str, Any]]) -> dict[str, Any]:
        nonlocal spent
        begin = time.process_time()
        batch = collate(records)
        spent += time.process_time() - begin
        return batch

    loader.collate_fn = timed_collate
    iterator = iter(loader)
    for _ in itertools.islice(iterator, warm_up):
        pass
    spent, begin, images = 0.0, time.process_time(), 0
    for batch in itertools.islice(iterator, batches):
        images += len(batch["pixel_values"])
    if not images:
        raise ValueError(
            f"The data are too few: {warm_up} batches are not counted. Generate more, or lower --batch-size."
        )
    total = time.process_time() - begin
    return {"images/s": images / total, "read ms": 1e3 * (total - spent) / images, "collate ms": 1e3 * spent / images}


def waiting_share(loader: DataLoader, batches: int, step_seconds: float) -> float:
    """Share of the time that a step of so many seconds waits for its batch, after the first batches."""
    waited, begin = 0.0, 0.0
    iterator = iter(loader)
    for number in range(batches):
        asked = time.perf_counter()
        if next(iterator, None) is None:
            break
        if number == 2:  # the workers' start does not count
            begin, waited, asked = time.perf_counter(), 0.0, time.perf_counter()
        waited += time.perf_counter() - asked
        time.sleep(step_seconds)
    return waited / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", help="folders of shards or in FineHARD's published layout")
    parser.add_argument("--model", choices=ARCHITECTURES, default="b16", help="decides the size of images")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--step-seconds", type=float, help="a step of this batch size on the device to be fed")
    parser.add_argument("--workers", type=int, default=0, help="measure the waiting share with so many")
    parser.add_argument("--tokenizer", help="folder of CLIP's tokenizer; by default a tokenizer of single bytes")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    if arguments.workers and not arguments.step_seconds:
        parser.error("--workers needs --step-seconds, the time of a step of this batch size")
    torch.set_num_threads(1)
    warm_up, rows = math.ceil(BLOCK / arguments.batch_size), []
    for root in arguments.roots:
        for name, data in sources(root):
            collator = make_collator(arguments.model, arguments.tokenizer)
            loader = make_loader(data, collator, arguments.batch_size, warm_up + arguments.batches, 0)
            row: dict[str, Any] = {"data": name}
            measured = rate(loader, arguments.batches, warm_up)
            row |= {key: round(value, 2) for key, value in measured.items()}
            if arguments.step_seconds:
                needed = arguments.batch_size / arguments.step_seconds
                row["cores to feed the step"] = math.ceil(needed / measured["images/s"])
            if arguments.workers:
                loader = make_loader(data, collator, arguments.batch_size, arguments.batches, arguments.workers)
                row["waiting"] = f"{waiting_share(loader, arguments.batches, arguments.step_seconds):.1%}"
            rows.append(row)
    print(table(rows))
    save(arguments.output, {"rows": rows})


if __name__ == "__main__":
    main()
