"""FG-CLIP 2's losses against naive ones, at their edges, and on two processes against one."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.functional import cross_entropy, logsigmoid, normalize, relu
from torch.testing import assert_close

from training.losses import (
    cross_modal_rank_loss,
    hard_contrastive_loss,
    margin_sums,
    next_margin,
    sigmoid_contrastive_loss,
    textual_contrast_loss,
)

SCALE, BIAS = torch.tensor([5.0]), torch.tensor([-2.0])


def embeddings(*shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape), dim=-1)


def naive_sigmoid(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    signs = 2 * torch.eye(len(image)) - 1
    return -logsigmoid(signs * (SCALE * image @ text.t() + BIAS)).sum() / len(image)


def test_sigmoid_of_zero_logits_is_log_two_a_question():
    zeros = torch.zeros(6, 8)
    assert_close(sigmoid_contrastive_loss(zeros, zeros, SCALE, 0 * BIAS), torch.tensor(6 * math.log(2)))


def test_sigmoid_in_chunks_skips_missing_captions():
    image, text = embeddings(7, 8).requires_grad_(), embeddings(7, 8)
    valid = torch.tensor([True, True, False, True, False, True, True])
    gradients = []
    for limit in (1, 20, 1 << 20):
        image.grad = None
        loss = sigmoid_contrastive_loss(image, text, SCALE, BIAS, valid, max_logits=limit)
        assert_close(loss, naive_sigmoid(image[valid], text[valid]))
        loss.backward()
        gradients.append(image.grad)
    for gradient in gradients[1:]:
        assert_close(gradient, gradients[0])
    assert not gradients[0][~valid].any()


def test_sigmoid_leaves_duplicates_out():
    image, text = embeddings(2, 8), embeddings(1, 8).expand(2, 8)
    loss = sigmoid_contrastive_loss(image, text, SCALE, BIAS, identity=torch.tensor([7, 7]))
    assert_close(loss, -logsigmoid(SCALE * (image * text).sum(-1) + BIAS).mean())


def test_sigmoid_without_any_caption_is_zero_and_has_a_gradient():
    image = embeddings(3, 8).requires_grad_()
    loss = sigmoid_contrastive_loss(image, embeddings(3, 8), SCALE, BIAS, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert (loss.item(), image.grad.abs().sum().item()) == (0, 0)


@pytest.mark.parametrize("count", [1, 9, 10, 13])
def test_textual_contrast(count):
    """Padding between the phrases; equal ones; fewer than ten and more."""
    valid = torch.zeros(20, dtype=torch.bool)
    valid[torch.randperm(20)[:count]] = True
    text = embeddings(20, 8)
    if count > 1:
        first, second = valid.nonzero()[:2, 0]
        text[second] = text[first]
    chosen = text[valid]
    similarities = chosen @ chosen.t()
    similarities[similarities > 0.95] = 0
    expected = similarities.sort(descending=True).values[:, :10].exp().sum(-1).log().mean()
    assert_close(textual_contrast_loss(text, valid), expected)


def test_textual_contrast_of_one_phrase_or_none_moves_nothing():
    for count in (0, 1):
        text = embeddings(4, 8).requires_grad_()
        loss = textual_contrast_loss(text, torch.arange(4) < count)
        loss.backward()
        assert (loss.item(), text.grad.abs().sum().item()) == (0, 0)


@pytest.fixture
def hard() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four regions of 10, 1, 0 and 3 negatives; the third counts nowhere."""
    valid = torch.arange(11) < torch.tensor([11, 2, 1, 4]).unsqueeze(1)
    return embeddings(4, 8), embeddings(4, 11, 8), SCALE, valid


def test_hard_contrast(hard):
    region, text, _, valid = hard
    counted = torch.tensor([0, 1, 3])
    positives, regions = text[counted, 0], region[counted]
    negatives = torch.cat([text[index, 1:][valid[index, 1:]] for index in counted])
    target = torch.arange(3)
    expected = cross_entropy(SCALE * regions @ torch.cat([positives, negatives]).t(), target)
    expected = (expected + cross_entropy(SCALE * positives @ regions.t(), target)) / 2
    assert_close(hard_contrastive_loss(*hard), expected)


def test_rank_loss_and_margin(hard):
    region, text, _, valid = hard
    positive, negative = [], []
    for index in (0, 1, 3):
        logits = SCALE * text[index][valid[index]] @ region[index]
        positive.append(logits[:1])
        negative.append(logits[1:])
    terms = [relu(0.3 + down - up) for up, down in zip(positive, negative, strict=True)]
    assert_close(cross_modal_rank_loss(*hard, torch.tensor(0.3)), torch.cat(terms).mean())
    sums = margin_sums(*hard)
    difference = torch.cat(positive).mean() - torch.cat(negative).mean()
    assert_close(next_margin(sums, torch.tensor(0.0)), difference.clamp(0, 10))
    # Of two batches of a step, the sums add up.
    assert_close(next_margin(2 * sums, torch.tensor(0.0)), difference.clamp(0, 10))
    assert next_margin(torch.tensor([500.0, 1, 0, 1]), torch.tensor(0.0)) == 10


@pytest.mark.parametrize("count", [0, 1])
def test_no_or_one_hard_region(count):
    region, text = embeddings(count, 8).requires_grad_(), embeddings(count, 3, 8)
    scale = SCALE.clone().requires_grad_()
    hard = (region, text, scale, torch.ones(count, 3, dtype=torch.bool))
    loss = hard_contrastive_loss(*hard) + cross_modal_rank_loss(*hard, torch.tensor(0.3))
    loss.backward()
    assert loss.isfinite()
    assert region.grad.isfinite().all()
    assert scale.grad.isfinite().all()
    if not count:
        assert loss == 0
        assert next_margin(margin_sums(*hard), torch.tensor(0.7)) == pytest.approx(0.7)


COUNTS = {"uneven": (3, 2), "one without": (4, 0), "none": (0, 0)}


def everything(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each loss by name, and its gradients."""
    results = {}
    hard = [inputs[name] for name in ("hard_region", "hard_text", "scale", "hard_valid")]
    losses = {
        "sigmoid": lambda: sigmoid_contrastive_loss(
            inputs["image"], inputs["text"], inputs["scale"], inputs["bias"], inputs["valid"]
        ),
        "textual": lambda: textual_contrast_loss(inputs["text"], inputs["valid"]),
        "contrastive": lambda: hard_contrastive_loss(*hard),
        "rank": lambda: cross_modal_rank_loss(*hard, torch.tensor(0.2)),
    }
    for name, loss in losses.items():
        wanted = {key: value.requires_grad_() for key, value in inputs.items() if value.is_floating_point()}
        value = loss()
        gradients = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
        results[name] = value.detach()
        results |= {
            f"{name}/{key}": torch.zeros_like(wanted[key]) if gradient is None else gradient
            for key, gradient in zip(wanted, gradients, strict=True)
        }
    results["margin"] = next_margin(margin_sums(*hard), torch.tensor(0.2))
    return results


def whole_batch(case: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    count = sum(COUNTS[case])
    return {
        "image": embeddings(8, 6),
        "text": embeddings(8, 6),
        "valid": torch.tensor([True, False, True, True] + [case == "uneven"] * 4),
        "scale": SCALE.clone(),
        "bias": BIAS.clone(),
        "hard_region": embeddings(count, 6),
        "hard_text": embeddings(count, 4, 6),
        "hard_valid": torch.arange(4) < torch.randint(1, 5, (count, 1)),
    }


def worker(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    for case, counts in COUNTS.items():
        whole = whole_batch(case)
        share = {name: value if name in ("scale", "bias") else value.chunk(2)[rank] for name, value in whole.items()}
        for name in ("hard_region", "hard_text", "hard_valid"):
            share[name] = whole[name].split(counts)[rank]
        # A process sees as many columns as its own regions need.
        columns = max(2, int(share["hard_valid"].sum(-1).max())) if counts[rank] else 2
        share["hard_text"], share["hard_valid"] = share["hard_text"][:, :columns], share["hard_valid"][:, :columns]
        torch.save(everything({name: value.clone() for name, value in share.items()}), f"{folder}/{case}-{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path):
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    for case in COUNTS:
        expected = everything(whole_batch(case))
        ranks = [torch.load(tmp_path / f"{case}-{rank}.pt") for rank in (0, 1)]
        for name, value in expected.items():
            parts = [found[name] for found in ranks]
            key = name.split("/")[-1]
            if key == "margin":
                found = parts[0]
                assert torch.equal(parts[0], parts[1])
            elif "/" not in name or key in ("scale", "bias"):
                found = sum(parts) / 2
            else:
                # A row's gradient is averaged over the ranks like every other: here each rank holds its own rows.
                width = value.shape[1] if key == "hard_text" else None
                if width is not None:
                    parts = [torch.nn.functional.pad(part, (0, 0, 0, width - part.shape[1])) for part in parts]
                found = torch.cat(parts) / 2
            assert_close(found, value, msg=lambda text, name=name, case=case: f"{case}, {name}: {text}")
