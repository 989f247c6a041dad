"""Collectives that carry gradients; every one is the identity on a single process."""

import torch
import torch.distributed as dist

try:
    from torch.distributed._functional_collectives import all_gather_single_autograd
except ImportError:  # before torch 2.13 it had another name
    from torch.distributed._functional_collectives import all_gather_tensor_autograd as all_gather_single_autograd


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """(n, …) of each rank to (ranks * n, …), in rank order. The gradient of every rank flows back to its rows.

    All ranks must hold the same shape; give rows that only some have as padding with a mask.
    """
    if world_size() == 1:
        return tensor
    if tensor.requires_grad:
        return all_gather_single_autograd(tensor.contiguous(), 0, dist.group.WORLD)
    gathered = tensor.new_empty((world_size() * tensor.shape[0], *tensor.shape[1:]))
    dist.all_gather_into_tensor(gathered, tensor.contiguous())
    return gathered


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all ranks, without gradient."""
    total = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def max_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The entrywise maximum of a tensor over all ranks, without gradient."""
    largest = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest


def gather_ragged(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(n, …) of each rank, n of any size, to (sum of n, …) in rank order, with gradient; and where this rank's begin."""
    if world_size() == 1:
        return tensor, 0
    count = torch.tensor([len(tensor)], device=tensor.device)
    counts = gather(count).tolist()
    padded = torch.cat([tensor, tensor.new_zeros(max(counts) - len(tensor), *tensor.shape[1:])])
    parts = gather(padded).unflatten(0, (world_size(), -1)) if max(counts) else [tensor] * world_size()
    rows = [part[:length] for part, length in zip(parts, counts, strict=True)]
    return torch.cat(rows), sum(counts[: rank()])
