import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from torch.testing import assert_close

from training.losses import global_contrastive_loss, hard_negative_loss, regional_contrastive_loss
from training.losses.contrastive import contrastive_loss

SCALE = torch.tensor(5.0)


def embeddings(*shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape), dim=-1)


def naive_contrastive(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    logits = SCALE * first @ second.T
    target = torch.arange(len(first))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def test_equal_embeddings_cost_log_of_the_batch():
    same = torch.zeros(16, 8)
    assert_close(contrastive_loss(same, same, SCALE), torch.tensor(math.log(16)))
    assert_close(global_contrastive_loss(same, same, same, SCALE), torch.tensor(2 * math.log(16)))


def test_contrastive_is_the_mean_cross_entropy_of_both_directions():
    first, second = embeddings(7, 8), embeddings(7, 8)
    assert_close(contrastive_loss(first, second, SCALE), naive_contrastive(first, second))


def test_global_loss_sums_long_and_short_and_skips_missing_captions():
    image, long_text, short_text = (embeddings(6, 8) for _ in range(3))
    has_long = torch.tensor([True, False, True, True, False, True])
    everything = torch.ones(6, dtype=torch.bool)
    loss = global_contrastive_loss(image, long_text, short_text, SCALE, has_long, everything)
    expected = naive_contrastive(image[has_long], long_text[has_long]) + naive_contrastive(image, short_text)
    assert_close(loss, expected)


def test_regional_loss_is_that_of_the_valid_regions_alone():
    region, text = embeddings(3, 4, 8), embeddings(3, 4, 8)
    valid = torch.rand(3, 4) > 0.4
    loss = regional_contrastive_loss(region, text, SCALE, valid)
    assert_close(loss, naive_contrastive(region[valid], text[valid]))


@pytest.mark.parametrize("count", [0, 1])
def test_regional_loss_of_no_or_one_region_is_zero(count):
    region, text = embeddings(2, 3, 8).requires_grad_(), embeddings(2, 3, 8)
    valid = torch.zeros(2, 3, dtype=torch.bool)
    valid[0, :count] = True
    loss = regional_contrastive_loss(region, text, SCALE, valid)
    loss.backward()
    assert_close(loss.detach(), torch.tensor(0.0))
    assert_close(region.grad, torch.zeros_like(region.grad))


def test_hard_loss_is_cross_entropy_over_ragged_captions():
    region, text = embeddings(3, 8), embeddings(3, 5, 8)
    counts = [5, 2, 4]
    valid = torch.arange(5) < torch.tensor(counts).unsqueeze(1)
    expected = torch.stack(
        [
            cross_entropy(SCALE * text[index, :count] @ region[index], torch.tensor(0))
            for index, count in enumerate(counts)
        ]
    ).mean()
    assert_close(hard_negative_loss(region, text, SCALE, valid), expected)


def test_hard_loss_without_regions_is_zero_and_has_a_gradient():
    scale = SCALE.clone().requires_grad_()
    loss = hard_negative_loss(embeddings(0, 8), embeddings(0, 2, 8), scale, torch.zeros(0, 2, dtype=torch.bool))
    loss.backward()
    assert (loss.item(), scale.grad.item()) == (0.0, 0.0)


def test_equal_captions_cost_log_of_their_number():
    text = embeddings(1, 1, 8).expand(4, 11, 8)
    valid = torch.ones(4, 11, dtype=torch.bool)
    assert_close(hard_negative_loss(embeddings(4, 8), text, SCALE, valid), torch.tensor(math.log(11)))


@pytest.mark.parametrize("max_logits", [1, 14, 20])
def test_chunks_change_neither_loss_nor_gradient(max_logits):
    results = []
    for limit in (10**6, max_logits):
        torch.manual_seed(1)
        first, second = embeddings(7, 8).requires_grad_(), embeddings(7, 8).requires_grad_()
        scale = SCALE.clone().requires_grad_()
        valid = torch.tensor([True, True, False, True, True, True, True])
        loss = contrastive_loss(first, second, scale, valid, max_logits=limit)
        loss.backward()
        results.append([loss.detach(), first.grad, second.grad, scale.grad])
    assert_close(results[1], results[0])


def test_pairs_that_are_alike_in_any_way_are_no_negatives():
    """Texts 0 and 2 are equal, pictures 1 and 2 are: 2 is nobody's negative but that of 3."""
    first, second = embeddings(4, 8), embeddings(4, 8)
    identity = torch.tensor([[5, 1], [6, 2], [5, 2], [7, 3]])
    loss = contrastive_loss(first, second, SCALE, identity=identity)
    logits = SCALE * first @ second.T
    for one, other in ((0, 2), (1, 2)):
        logits[one, other] = logits[other, one] = -torch.inf
    target = torch.arange(4)
    assert_close(loss, (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2)


def test_duplicates_are_no_negatives():
    """Pairs 0 and 2 share their text: each is scored as if the other were not there."""
    first, second = embeddings(4, 8), embeddings(4, 8)
    second[2] = second[0]
    identity = torch.tensor([5, 6, 5, 7])
    loss = contrastive_loss(first, second, SCALE, identity=identity)
    logits = SCALE * first @ second.T
    logits[0, 2] = logits[2, 0] = -torch.inf
    target = torch.arange(4)
    assert_close(loss, (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2)
