"""Symmetric InfoNCE over the pairs of all ranks, which the global and the regional loss share."""

import torch

from training.distributed import gather, sum_over_ranks, world_size


def mean_over_ranks(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean of the valid values of all ranks, as this rank's share of it.

    Data-parallel training averages gradients over the ranks, so a rank's share is its own sum times the number of
    ranks over the number of all valid values: the average of the shares is the mean, whatever each rank holds.

    Args:
        values: (n,) of this rank.
        valid: (n,) bool.

    Returns:
        scalar; 0, with a gradient of 0, where no rank has a valid value.
    """
    count = sum_over_ranks(valid.sum())
    return torch.where(valid, values, 0).sum() * world_size() / count.clamp(min=1)


def contrastive_loss(
    first: torch.Tensor, second: torch.Tensor, scale: torch.Tensor, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """InfoNCE of pairs, mean of both directions, against the pairs of all ranks (equations 2 and 3).

    Args:
        first, second: (n, D) embeddings of this rank, L2-normalised; row i of both belongs together. Every rank has the
            same n.
        scale: inverse temperature, a scalar tensor.
        valid: (n,) bool, false for rows that are padding: neither pairs nor negatives.

    Returns:
        scalar, this rank's share of the mean over all valid pairs (see `mean_over_ranks`).
    """
    first, second = first.float(), second.float()
    valid = torch.ones(len(first), dtype=torch.bool, device=first.device) if valid is None else valid
    all_valid = gather(valid)
    positive = scale * (first * second).sum(-1)  # (n,)
    from_first = _log_sum_exp(scale * first, gather(second), all_valid) - positive
    from_second = _log_sum_exp(scale * second, gather(first), all_valid) - positive
    return mean_over_ranks((from_first + from_second) / 2, valid)


def _log_sum_exp(queries: torch.Tensor, keys: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(n,) log-sum-exp of the (n, m) products over the valid keys."""
    logits = queries @ keys.t()
    # The lowest number and not -inf, which would give NaN gradients where no key is valid.
    return logits.masked_fill(~valid, torch.finfo(logits.dtype).min).logsumexp(-1)


__all__ = ["contrastive_loss", "mean_over_ranks"]
