"""A loss as a term of the objective: what it is called, what it weighs, and what it needs of a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from modeling_fgclip import FGCLIPOutput
from training.data.collator import NO_TEXT

# What a term may need beside the images' embeddings: `teacher` is the model as training found it, frozen;
# `bias` is that of the logits, which FG-CLIP 2 has.
NEEDS = frozenset({"texts", "regions", "crops", "teacher", "bias"})

# Of what ranks exchange: images, places for regions, regions with hard negatives, and these negatives.
ROWS = ("images", "regions", "hard regions", "rewrites")


@dataclass
class StepOutput(FGCLIPOutput):
    """What one step's forward gives, beside the model's own output.

    Attributes:
        crop_embeds: (R, D) global embeddings of the regions, each cut out of its image and enlarged.
        teacher_embeds: (R, D) the teacher's of the same crops, without gradient.
    """

    crop_embeds: torch.Tensor | None = None
    teacher_embeds: torch.Tensor | None = None


@dataclass(frozen=True)
class Step:
    """What a loss sees of a step.

    Args:
        output: of the model.
        batch: of [`~training.data.collator.FGCLIPCollator`]; of several batches with gradient caching.
        regional_over_ranks: whether a region's negatives come from all ranks or from its own.
        mask_duplicates: whether pairs with equal texts, or of equal pictures, are no negatives of each other.
    """

    output: StepOutput
    batch: dict[str, Any]
    regional_over_ranks: bool = True
    mask_duplicates: bool = False

    def texts(self, index: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(…, D) embeddings of the texts that an index of the batch names, and where it names one."""
        rows = self.batch[index]
        return self.output.text_embeds[rows.clamp(min=0)], rows != NO_TEXT

    def identity(self, index: str) -> torch.Tensor | None:
        """(…) equal for equal texts; None where duplicates count as negatives."""
        return self.batch["text_hash"][self.batch[index].clamp(min=0)] if self.mask_duplicates else None

    def caption_identity(self, index: str) -> torch.Tensor | None:
        """(B, 2) of the captions and of the pictures; None where duplicates count as negatives."""
        texts = self.identity(index)
        return None if texts is None else torch.stack([texts, self.batch["picture_hash"]], dim=-1)

    def hard_regions(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(R, D) embeddings of the regions with hard negatives, (R, M, D) of their texts, (R, M) which there are."""
        text, valid = self.texts("hard_index")
        return self.output.region_embeds.flatten(0, 1)[self.batch["hard_region_index"]], text, valid

    def cropped_regions(self) -> torch.Tensor:
        """(R, D) embeddings of the regions that were cropped, from the dense features."""
        return self.output.region_embeds.flatten(0, 1)[self.batch["crop_index"]]


@dataclass(frozen=True)
class Exchange:
    """What ranks send each other for a mean, and for the pairs that it is over.

    Args:
        name: of the pairs.
        rows: of `ROWS`: how many pairs a rank has, or has places for.
        gathered: embeddings that are gathered with their gradient.
        constant: embeddings that are gathered without.
        regional: whether nothing is gathered where negatives come from one rank.
        ragged: whether ranks gather as many rows as they have, and their number instead of a mask.
        mean: whether the number of pairs is summed over the ranks.
    """

    name: str
    rows: str
    gathered: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    regional: bool = False
    ragged: bool = False
    mean: bool = True

    def __post_init__(self) -> None:
        if self.rows not in ROWS:
            raise ValueError(f"The exchange {self.name!r} is of {self.rows!r}; there are {', '.join(ROWS)}.")


@dataclass(frozen=True)
class Term:
    """A part of the objective.

    Args:
        name: in `--losses` and in the log.
        weight: by default.
        loss: from a [`Step`] and an inverse temperature to this rank's share of a scalar. A class is made anew for each
            run; if it has `state_dict` and `load_state_dict`, its state is a part of each checkpoint, and its `end_step`
            is called on all ranks after each optimizer step.
        temperature: parameter of the model, see `TEMPERATURES`; None for a loss without.
        needs: of `NEEDS`.
        exchanges: for `python -m training.plan`.
    """

    name: str
    weight: float
    loss: Callable[[Step, torch.Tensor | None], torch.Tensor] | type
    temperature: str | None = None
    needs: frozenset[str] = frozenset()
    exchanges: tuple[Exchange, ...] = ()

    def __post_init__(self) -> None:
        if unknown := self.needs - NEEDS:
            raise ValueError(f"The loss {self.name!r} needs {sorted(unknown)}; a step has {sorted(NEEDS)}.")
        if not self.weight >= 0 or self.weight == float("inf"):
            raise ValueError(f"The weight of the loss {self.name!r} must be a number from 0 on, got {self.weight}.")
