"""A stream as Trainer sees it: places that can be asked for, equal steps on every rank, draws of their own."""

import io
import shutil

import pytest
import torch

from training.data.sources import load_records, load_stream
from training.data.stream_loading import StreamDataLoader


def identities(records: list[dict]) -> list[tuple[str, str]]:
    return [(record["source_id"], record["draw"]) for record in records]


def loader(sources, batch_size=4, workers=0, weights=None, rank=0, world_size=1) -> StreamDataLoader:
    stream = load_stream([str(source) for source in sources], weights, 3, rank, world_size)
    return StreamDataLoader(stream, batch_size, identities, workers)


@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (1, 2), (2, 0), (3, 2)])
def test_every_rank_has_the_steps_it_announces(shards, other_shards, world_size, workers):
    lengths = set()
    for rank in range(world_size):
        batches = loader([shards, other_shards], 3, workers, [1, 2], rank, world_size)
        assert len(list(batches)) == len(batches)
        lengths.add(len(batches))
    assert len(lengths) == 1


def test_epochs_differ_and_every_draw_is_its_own(shards, other_shards):
    batches = loader([shards, other_shards], weights=[1, 9])
    epochs = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        epochs.append([pair for batch in batches for pair in batch])
    assert [name for name, _ in epochs[0]] != [name for name, _ in epochs[1]]
    names = [name for name, _ in epochs[0]]
    assert len(set(names)) < len(names)  # the small source is drawn several times an epoch
    assert len({draw for epoch in epochs for _, draw in epoch}) == 2 * len(names)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [2, 4])
def test_a_loaded_state_continues_with_the_next_batch_and_the_next_epoch(shards, workers, stop):
    whole = loader([shards], 5, workers)
    expected = []
    for epoch in range(3):
        whole.set_epoch(epoch)
        expected.append(list(whole))
    interrupted = loader([shards], 5, workers)
    interrupted.set_epoch(1)
    given = iter(interrupted)
    first = [next(given) for _ in range(stop)]
    # As a checkpoint holds it: plain numbers and containers, no pickled objects.
    file = io.BytesIO()
    torch.save(interrupted.state_dict(), file)
    file.seek(0)
    again = loader([shards], 5, workers)
    again.load_state_dict(torch.load(file, weights_only=True))
    places = [(1, number) for number in range(stop, len(again))]
    assert first + [again.dataset[place] for place in places] == expected[1]
    again.set_epoch(2)
    assert list(again) == expected[2]
    # And where the state is not needed, because the next epoch begins.
    boundary = loader([shards], 5, workers)
    boundary.load_state_dict(interrupted.state_dict())
    boundary.set_epoch(2)
    assert list(boundary) == expected[2]


def test_what_cannot_be_continued_is_refused(shards, other_shards):
    batches = loader([shards])
    batches.dataset[0, 0]
    state = batches.state_dict()
    with pytest.raises(ValueError, match="no state to begin there"):
        loader([shards]).dataset[0, 1]
    with pytest.raises(ValueError, match="same"):
        loader([other_shards]).load_state_dict(state)
    with pytest.raises(ValueError, match="dataloader_num_workers"):
        loader([shards], workers=2).load_state_dict(state)


def test_too_little_data_is_refused(other_shards):
    with pytest.raises(ValueError, match="none of them fills a batch of 9"):
        loader([other_shards], batch_size=9)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_cut_shard_stops_the_run_where_asked(shards, tmp_path, streaming):
    """What `--on_bad raise` does; passing over it is tested with the streams."""
    damaged = tmp_path / "damaged"
    shutil.copytree(shards, damaged)
    shard = max(damaged.rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ValueError, match=shard.name):
        load_stream([str(damaged)], None, 0, 0, 1, "raise") if streaming else load_records(
            [str(damaged)], None, "raise"
        )


def test_globs_and_folders(sample, shards, tmp_path):
    assert len(load_records([str(shards)])) == len(load_records([str(sample / "tr*")])) == 40
    with pytest.raises(ValueError, match="matches no folder"):
        load_records([str(tmp_path / "no*")])
