"""What a run minimizes: a weighted sum of terms (equation 5: global + 0.1 regional + 0.5 hard)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from modeling_fgclip import FGCLIPOutput

from .data.collator import FGCLIPCollator
from .losses import TERMS, Step, Term
from .temperatures import TEMPERATURES


class Objective:
    """L = the sum of each term's weight times its loss.

    Args:
        terms: of the losses, by `parse_losses` or one's own.
        regional_over_ranks: whether a region's negatives come from all ranks or, as published, from its own alone.
        mask_duplicates: whether pairs with equal texts, or of equal pictures, are no negatives of each other (published:
            they are). Regions of one picture stay negatives of each other, as they are within a record.
    """

    def __init__(self, terms: Sequence[Term], regional_over_ranks: bool = True, mask_duplicates: bool = False):
        self.terms = [replace(term, loss=term.loss() if isinstance(term.loss, type) else term.loss) for term in terms]
        self.regional_over_ranks = regional_over_ranks
        self.mask_duplicates = mask_duplicates

    @property
    def needs(self) -> frozenset[str]:
        """Of a step, by all terms (`training.losses.term.NEEDS`)."""
        return frozenset().union(*(term.needs for term in self.terms))

    @property
    def uses_regions(self) -> bool:
        return "regions" in self.needs

    def collation(self, max_regions: int = FGCLIPCollator.max_regions) -> dict[str, Any]:
        """Settings of the collator: what is not needed is not prepared."""
        return {
            "max_regions": max_regions if self.uses_regions else 0,
            "identify_pictures": self.mask_duplicates,
            "crops": "crops" in self.needs,
            "teacher_crops": "teacher" in self.needs,
            "texts": "texts" in self.needs,
        }

    @property
    def temperatures(self) -> dict[str, str]:
        """The model's parameter by the term that it belongs to."""
        return {term.name: term.temperature for term in self.terms if term.temperature}

    def losses(self, output: FGCLIPOutput, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Each term's loss by its name, unweighted, as this rank's share of it.

        Args:
            output: of the model for the batch, with what the terms need beside it (`StepOutput`).
            batch: of [`~training.data.collator.FGCLIPCollator`].
        """
        scales = {name: scale.reshape(()) for name, scale in zip(TEMPERATURES, output.scales, strict=True)}
        step = Step(output, batch, self.regional_over_ranks, self.mask_duplicates)
        # Half precision is for the encoders: similarities and log-sum-exps are formed in float32.
        with torch.autocast(output.image_embeds.device.type, enabled=False):
            return {term.name: term.loss(step, scales.get(term.temperature)) for term in self.terms}

    def total(self, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return sum(term.weight * losses[term.name] for term in self.terms)

    def end_step(self) -> None:
        """After each optimizer step, on all ranks."""
        for term in self.terms:
            if hasattr(term.loss, "end_step"):
                term.loss.end_step()

    def state_dict(self) -> dict[str, Any]:
        """Of the terms that have a state of their own."""
        return {term.name: term.loss.state_dict() for term in self.terms if hasattr(term.loss, "state_dict")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Raises:
            ValueError: a term's state is missing.
        """
        for term in self.terms:
            if hasattr(term.loss, "load_state_dict"):
                if term.name not in state:
                    raise ValueError(
                        f"The checkpoint is of a run without the loss {term.name!r}; resume with its --losses."
                    )
                term.loss.load_state_dict(state[term.name])


def parse_losses(losses: Sequence[str]) -> list[Term]:
    """Terms of `global`, `regional=0.1`, …: names, with a weight where it is not the term's own.

    Raises:
        ValueError: an unknown or repeated name, a weight that is no number from 0 on, or nothing that weighs.
    """
    terms: dict[str, Term] = {}
    for text in losses:
        name, given, weight = text.partition("=")
        if name not in TERMS:
            raise ValueError(f"Received the unknown loss {name!r}; there are {', '.join(TERMS)}.")
        if name in terms:
            raise ValueError(f"Received the loss {name!r} twice in {' '.join(losses)}.")
        try:
            terms[name] = replace(TERMS[name], weight=float(weight)) if given else TERMS[name]
        except ValueError as error:
            raise ValueError(f"Received the loss {text!r}; give a weight as {name}=0.5. {error}") from None
    weighed = [term for term in terms.values() if term.weight]
    if not weighed:
        raise ValueError(f"Received no loss to minimize ({' '.join(losses)}); see --losses.")
    return weighed
