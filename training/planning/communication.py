"""What ranks send each other in a training step; tests compare it with what torch really sends."""

from dataclasses import dataclass

from modeling_fgclip import FGCLIPConfig
from training.objective import Objective

STRATEGIES = ("ddp", "zero2", "fsdp2")

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


def embedding_collectives(
    config: FGCLIPConfig, images: int, max_regions: int, objective: Objective, ranks: int
) -> list[Collective]:
    """Those of the losses, for `images` a rank with `max_regions` places for regions each.

    Embeddings are gathered in float32, and their gradients go back to their ranks by a reduce-scatter of the same size.
    The hard-negative loss needs no embedding of another rank.
    """
    if ranks == 1:
        return []
    collectives = []
    for name, pairs in (("long captions", images), ("short captions", images)):
        collectives += _contrastive(name, pairs, config.projection_dim, ranks, over_ranks=True)
    if objective.regional_weight:
        collectives += _contrastive(
            "regions", images * max_regions, config.projection_dim, ranks, objective.regional_over_ranks
        )
    if objective.hard_weight:
        collectives.append(Collective("all_reduce", "number of hard negatives", INT64))
    return collectives


def _contrastive(name: str, pairs: int, width: int, ranks: int, over_ranks: bool) -> list[Collective]:
    embeddings = ranks * pairs * width * FLOAT32
    count = Collective("all_reduce", f"number of {name}", INT64)
    if not over_ranks:
        return [count]
    sides = (f"{name}: images", f"{name}: texts")
    return [
        count,
        Collective("all_gather", f"{name}: mask", ranks * pairs * BOOL),
        *(Collective("all_gather", side, embeddings) for side in sides),
        *(Collective("reduce_scatter", side, embeddings) for side in sides),
    ]


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
