"""Symmetric InfoNCE over the pairs of all ranks, which the global and the regional loss share."""

import functools

import torch
from torch.utils.checkpoint import checkpoint

from training.distributed import gather, rank, sum_over_ranks, world_size

# Similarities held at once, in float32 a quarter of a gigabyte; beyond it rows are taken in turns.
MAX_LOGITS = 1 << 26


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
    first: torch.Tensor,
    second: torch.Tensor,
    scale: torch.Tensor,
    valid: torch.Tensor | None = None,
    identity: torch.Tensor | None = None,
    over_ranks: bool = True,
    max_logits: int = MAX_LOGITS,
) -> torch.Tensor:
    """InfoNCE of pairs, mean of both directions (equations 2 and 3).

    Args:
        first, second: (n, D) embeddings of this rank, L2-normalized; row i of both belongs together. Every rank has the
            same n.
        scale: inverse temperature, a scalar tensor.
        valid: (n,) bool, false for rows that are padding: neither pairs nor negatives.
        identity: (n,) or (n, k) integers; pairs that are equal in any of k are no negatives of each other (published: none).
        over_ranks: whether negatives come from all ranks or from this one alone.
        max_logits: similarities held at once; the gradient is the same for any number.

    Returns:
        scalar, this rank's share of the mean over all valid pairs (see `mean_over_ranks`).
    """
    first, second = first.float(), second.float()
    valid = torch.ones(len(first), dtype=torch.bool, device=first.device) if valid is None else valid
    collect = gather if over_ranks else lambda tensor: tensor
    keys = _Keys(
        valid=collect(valid),
        identity=None if identity is None else collect(identity),
        own=torch.arange(len(first), device=first.device) + (rank() * len(first) if over_ranks else 0),
        own_identity=identity,
    )
    positive = scale * (first * second).sum(-1)  # (n,)
    from_first = keys.log_sum_exp(scale * first, collect(second), max_logits) - positive
    from_second = keys.log_sum_exp(scale * second, collect(first), max_logits) - positive
    return mean_over_ranks((from_first + from_second) / 2, valid)


def are_alike(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(n, m) whether two identities, (n,) and (m,) or (n, k) and (m, k), are equal, or equal in any of k."""
    if first.dim() == 1:
        return first.unsqueeze(1) == second
    columns = zip(first.unbind(1), second.unbind(1), strict=True)
    return functools.reduce(torch.logical_or, (mine.unsqueeze(1) == other for mine, other in columns))


class _Keys:
    """Which of m keys count for each of n queries."""

    def __init__(
        self,
        valid: torch.Tensor,
        identity: torch.Tensor | None,
        own: torch.Tensor,
        own_identity: torch.Tensor | None,
    ):
        self.valid = valid  # (m,)
        self.identity = identity  # (m,) or (m, k)
        self.own = own  # (n,) each query's own place among the keys
        self.own_identity = own_identity  # (n,) or (n, k)

    def log_sum_exp(self, queries: torch.Tensor, keys: torch.Tensor, max_logits: int) -> torch.Tensor:
        """(n,) log-sum-exp of the (n, m) products over the keys that count."""
        rows = max(1, max_logits // len(keys))
        if len(queries) <= rows:
            return self._rows(queries, keys, slice(None))
        chunks = [slice(start, start + rows) for start in range(0, len(queries), rows)]
        # Each chunk's logits are formed again in the backward pass instead of being kept.
        return torch.cat(
            [checkpoint(self._rows, queries[chunk], keys, chunk, use_reentrant=False) for chunk in chunks]
        )

    def _rows(self, queries: torch.Tensor, keys: torch.Tensor, chunk: slice) -> torch.Tensor:
        excluded = ~self.valid
        if self.identity is not None:
            place = torch.arange(len(keys), device=keys.device)
            alike = are_alike(self.own_identity[chunk], self.identity)
            excluded = excluded | (alike & (self.own[chunk].unsqueeze(1) != place))
        logits = queries @ keys.t()
        # The lowest number and not -inf, which would give NaN gradients where no key is valid.
        return logits.masked_fill(excluded, torch.finfo(logits.dtype).min).logsumexp(-1)


__all__ = ["contrastive_loss", "mean_over_ranks"]
