"""What ranks send each other in a training step; tests compare it with what torch really sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.losses.term import Exchange
    from training.objective import Objective

STRATEGIES = ("ddp", "zero2", "fsdp2")
CHECKPOINTING = ("none", "selective", "blocks")

FLOAT32, BFLOAT16, INT64, BOOL = 4, 2, 8, 1


@dataclass(frozen=True)
class Collective:
    """One collective operation.

    Args:
        kind: all_reduce, all_gather or reduce_scatter.
        purpose: of what.
        size: bytes of the whole tensor: what is reduced, the result of a gather, the input of a scatter.
    """

    kind: str
    purpose: str
    size: int

    def sent(self, ranks: int) -> float:
        """Bytes that a rank sends with a ring algorithm (Patarasuk and Yuan, 2009)."""
        passes = 2 if self.kind == "all_reduce" else 1
        return passes * self.size * (ranks - 1) / ranks


def embedding_collectives(width: int, rows: dict[str, int], objective: Objective, ranks: int) -> list[Collective]:
    """Those of the losses.

    Embeddings are gathered in float32, and their gradients go back to their ranks by a reduce-scatter of the same size.

    Args:
        width: of an embedding.
        rows: of each kind (`Exchange.rows`), of a rank; of ragged ones those of the rank that has most.
        objective: whose terms say what they exchange.
        ranks: how many there are.
    """
    if ranks == 1:
        return []
    collectives = []
    for term in objective.terms:
        for exchange in term.exchanges:
            over_ranks = objective.regional_over_ranks or not exchange.regional
            collectives += _exchanged(exchange, rows[exchange.rows], width, ranks, over_ranks)
    return collectives


def _exchanged(exchange: Exchange, pairs: int, width: int, ranks: int, over_ranks: bool) -> list[Collective]:
    name, embeddings = exchange.name, ranks * pairs * width * FLOAT32
    collectives = [Collective("all_reduce", f"number of {name}", INT64)] if exchange.mean else []
    if exchange.gathered and over_ranks:
        for side in exchange.gathered:
            collectives += [
                Collective(kind, f"{name}: {side}", embeddings) for kind in ("all_gather", "reduce_scatter")
            ]
            if exchange.ragged:
                collectives.append(Collective("all_gather", f"{name}: rows of {side}", ranks * INT64))
        if not exchange.ragged:
            collectives.append(Collective("all_gather", f"{name}: mask", ranks * pairs * BOOL))
    return collectives + [Collective("all_gather", f"{name}: {side}", embeddings) for side in exchange.constant]


def gradient_collectives(parameters: int, strategy: str, ranks: int) -> list[Collective]:
    """Those of gradients and parameters.

    - ddp: float32 gradients are averaged on all ranks.
    - zero2: bfloat16 gradients are reduced to the rank that updates them, bfloat16 weights gathered after the step
      (Rajbhandari et al., 2020, section 7).
    - fsdp2: bfloat16 weights are gathered for the forward and again for the backward pass, float32 gradients reduced
      to their rank.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"Received the strategy {strategy!r}; there are {', '.join(STRATEGIES)}.")
    if ranks == 1:
        return []
    if strategy == "ddp":
        return [Collective("all_reduce", "gradients", parameters * FLOAT32)]
    if strategy == "zero2":
        return [
            Collective("reduce_scatter", "gradients", parameters * BFLOAT16),
            Collective("all_gather", "updated weights", parameters * BFLOAT16),
        ]
    return [
        Collective("all_gather", "weights, forward", parameters * BFLOAT16),
        Collective("all_gather", "weights, backward", parameters * BFLOAT16),
        Collective("reduce_scatter", "gradients", parameters * FLOAT32),
    ]
