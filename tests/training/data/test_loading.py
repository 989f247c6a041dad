from training.data.loading import ShuffledBatches


def batches(epoch: int = 0, **settings) -> list[list[tuple[int, int]]]:
    sampler = ShuffledBatches(**{"size": 23, "batch_size": 4, "seed": 3, **settings})
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_epoch_draws_every_record_at_most_once():
    drawn = [index for batch in batches() for index, _ in batch]
    assert len(drawn) == len(set(drawn)) == 20
    assert len(batches()) == 5


def test_the_order_depends_on_seed_and_epoch_alone():
    assert batches() == batches()
    assert batches() != batches(seed=4)
    assert batches()[0] != [(index, 0) for index, _ in batches(epoch=1)[0]]
    assert {draw for batch in batches(epoch=2) for _, draw in batch} == {2}


def test_ranks_share_the_batches_of_one_process():
    one = batches(batch_size=8)
    ranks = [batches(batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    assert one == [first + second for first, second in zip(*ranks, strict=True)]
