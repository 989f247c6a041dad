"""A stream in two real processes that meet at every step, as they do in training."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed
import torch.multiprocessing
from torchdata.stateful_dataloader import StatefulDataLoader

from dataset_scripts.convert import ConvertSettings, convert, finehard_source
from dataset_scripts.report import Report
from dataset_scripts.streaming import load_training_data


def _names(records: list[dict]) -> list[str]:
    return [record["source_id"] for record in records]


def _rank(rank: int, folders: list[str], output: str) -> None:
    """Two epochs; a rank with fewer steps than the other would make the gathering fail."""
    store = torch.distributed.FileStore(f"{output}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=600))
    stream = load_training_data(folders[rank], streaming=True, rank=rank, world_size=2)
    loader = StatefulDataLoader(stream, batch_size=3, num_workers=rank, collate_fn=_names)
    epochs = []
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        steps = []
        for names in loader:
            both: list[list[str]] = [[], []]
            torch.distributed.all_gather_object(both, names)
            steps.append(both)
        epochs.append(steps)
    torch.distributed.barrier()
    if rank == 0:
        Path(output, "steps.json").write_text(json.dumps(epochs))
    torch.distributed.destroy_process_group()


@pytest.mark.slow  # two processes load their libraries; test_streaming.py has all ranks in one process
@pytest.mark.parametrize("kind", ["whole", "one copy cut"])
def test_two_processes_take_equal_steps_and_see_every_sample_once_an_epoch(
    sample: Path, tmp_path: Path, kind: str
) -> None:
    """Five uneven shards: 9, 9, 9, 9 and 4 of 40 records."""
    whole = tmp_path / "whole"
    source = finehard_source(str(sample / "train"), whole, Report())
    convert(source, whole, ConvertSettings(shard_size=9, shard_format="webdataset", workers=2))
    folders, lost = [str(whole)] * 2, 0
    if kind == "one copy cut":  # each machine has its own disk
        copy = Path(shutil.copytree(whole, tmp_path / "copy"))
        shard = copy / "train-00001.tar"
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
        folders[1] = str(copy)
        lost = load_training_data(copy, streaming=True).report.problems["record lost with its shard"]
        assert 0 < lost < 9
    torch.multiprocessing.spawn(_rank, (folders, str(tmp_path)), nprocs=2)
    for steps in json.loads((tmp_path / "steps.json").read_text()):
        assert len(steps) == 7  # 20 records a process in batches of 3
        assert all(len(both[0]) == len(both[1]) for both in steps)
        counts = Counter(name for both in steps for names in both for name in names)
        assert sum(counts.values()) == 40
        assert 40 - lost <= len(counts) <= 40
        assert lost or set(counts.values()) == {1}
