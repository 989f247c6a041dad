"""Contrastive batches larger than memory (GradCache, Gao et al., 2021).

The loss depends on the encoders only through their embeddings. So all batches of a step are first embedded without
a graph; the loss on all these embeddings gives the gradient of each; then each batch is embedded once more with a
graph, through which its share of the gradient flows back. The sum is the gradient of the large batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from training.data.collator import NO_TEXT
from training.losses.term import StepOutput
from training.objective import Objective

from .random_state import RandomState

Batch = dict[str, Any]

EMBEDDINGS = ("image_embeds", "text_embeds", "region_embeds", "crop_embeds")
CONSTANTS = ("teacher_embeds",)


@dataclass
class CachedBatch:
    """What the second pass over a batch needs: gradients by output, and the random state of the first pass."""

    gradients: dict[str, torch.Tensor]
    scale_gradients: tuple[torch.Tensor, ...] | None
    random_state: RandomState

    def loss(self, output: StepOutput) -> torch.Tensor:
        """A scalar whose gradient through `output` is this batch's share of the large batch's."""
        pairs = [(getattr(output, name), gradient) for name, gradient in self.gradients.items()]
        if self.scale_gradients is not None:
            pairs += zip(_shared(output), self.scale_gradients, strict=True)
        return sum((value.float() * gradient).sum() for value, gradient in pairs)


def cache_gradients(
    embed: Callable[[Batch], StepOutput], batches: Sequence[Batch], objective: Objective, device: torch.device
) -> tuple[dict[str, torch.Tensor], list[CachedBatch]]:
    """The losses of all batches as one, and the gradient at every embedding.

    Args:
        embed: the model's forward on a batch of the collator.
        batches: of this rank; every rank has as many, of the same sizes.
        objective: the losses.
        device: that the model is on, whose random numbers the second pass must draw again.

    Returns:
        the parts of the loss, and for each batch what its second pass needs. Temperatures and bias, which all batches
        share, get their gradient with the last.
    """
    outputs, random_states = [], []
    with torch.no_grad():
        for batch in batches:
            random_states.append(RandomState(device))
            outputs.append(embed(batch))
    names = [name for name in EMBEDDINGS if getattr(outputs[0], name) is not None]
    pieces = {name: [getattr(output, name).float().requires_grad_() for output in outputs] for name in names}
    constants = {
        name: torch.cat([getattr(output, name) for output in outputs])
        for name in CONSTANTS
        if getattr(outputs[0], name) is not None
    }
    shared = tuple(value.float().requires_grad_() for value in _shared(outputs[0]))
    merged = StepOutput(**{name: torch.cat(values) for name, values in pieces.items()}, **constants, scales=shared[:3])
    merged.bias = shared[3] if len(shared) > 3 else None
    losses = objective.losses(merged, merge_targets(batches, merged.image_embeds.device))
    objective.total(losses).backward()
    scale_gradients = tuple(torch.zeros_like(value) if value.grad is None else value.grad for value in shared)
    cached = []
    for index, random_state in enumerate(random_states):
        gradients = {name: pieces[name][index].grad for name in names}
        given = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        is_last = index == len(batches) - 1
        cached.append(CachedBatch(given, scale_gradients if is_last else None, random_state))
    return {name: loss.detach() for name, loss in losses.items()}, cached


def _shared(output: StepOutput) -> tuple[torch.Tensor, ...]:
    """What all batches share: the inverse temperatures, and the bias of a model that has one."""
    return output.scales if output.bias is None else (*output.scales, output.bias)


def merge_targets(batches: Sequence[Batch], device: torch.device) -> Batch:
    """The indices of several batches as those of one whose texts, images and regions follow each other."""
    merged: dict[str, list[torch.Tensor]] = {}
    negatives = max((batch["hard_index"].shape[1] for batch in batches if "hard_index" in batch), default=0)
    texts = regions = 0
    for batch in batches:
        for name in ("long_index", "short_index", "region_index", "hard_index"):
            if name in batch:
                index = torch.where(batch[name] == NO_TEXT, NO_TEXT, batch[name] + texts)
                if name == "hard_index":
                    index = F.pad(index, (0, negatives - index.shape[1]), value=NO_TEXT)
                merged.setdefault(name, []).append(index)
        for name in ("hard_region_index", "crop_index"):
            if name in batch:
                merged.setdefault(name, []).append(batch[name] + regions)
        if "region_index" in batch:
            regions += batch["region_index"].numel()
        for name in ("text_hash", "picture_hash"):
            if name in batch:
                merged.setdefault(name, []).append(batch[name])
        texts += len(batch["text_hash"])
    return {name: torch.cat(values).to(device) for name, values in merged.items()}
