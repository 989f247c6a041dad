"""From the model's output and a batch to the losses of a stage (equation 5)."""

from dataclasses import dataclass

import torch

from modeling_fgclip import FGCLIPOutput

from .data.collator import NO_TEXT
from .losses import global_contrastive_loss, hard_negative_loss, regional_contrastive_loss


@dataclass(frozen=True)
class Objective:
    """L = L_global + alpha * L_regional + beta * L_hard.

    Args:
        regional_weight: alpha; 0 leaves the loss out.
        hard_weight: beta; 0 leaves the loss out.
        regional_over_ranks: whether a region's negatives come from all ranks or, as published, from its own alone.
        mask_duplicates: whether pairs with equal texts are no negatives of each other (published: they are).
    """

    regional_weight: float = 0.0
    hard_weight: float = 0.0
    regional_over_ranks: bool = True
    mask_duplicates: bool = False

    @property
    def uses_regions(self) -> bool:
        return bool(self.regional_weight or self.hard_weight)

    def losses(self, output: FGCLIPOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Each part by name, unweighted, as this rank's share of it.

        Args:
            output: of [`FGCLIPModel`] for the batch.
            batch: of [`~training.data.collator.FGCLIPCollator`].
        """
        # Half precision is for the encoders: similarities and log-sum-exps are formed in float32.
        with torch.autocast(output.image_embeds.device.type, enabled=False):
            return self._losses(output, batch)

    def total(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        weights = {"global": 1.0, "regional": self.regional_weight, "hard": self.hard_weight}
        return sum(weights[name] * loss for name, loss in losses.items())

    def _losses(self, output: FGCLIPOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        global_scale, regional_scale, hard_scale = output.scales
        image, text = output.image_embeds, output.text_embeds
        long_text, has_long = _look_up(text, batch["long_index"])
        short_text, has_short = _look_up(text, batch["short_index"])
        losses = {
            "global": global_contrastive_loss(
                image,
                long_text,
                short_text,
                global_scale,
                has_long,
                has_short,
                self._identity(batch, "long_index"),
                self._identity(batch, "short_index"),
            )
        }
        if self.regional_weight:
            region_text, has_region = _look_up(text, batch["region_index"])
            losses["regional"] = regional_contrastive_loss(
                output.region_embeds,
                region_text,
                regional_scale,
                has_region,
                self._identity(batch, "region_index"),
                self.regional_over_ranks,
            )
        if self.hard_weight:
            hard_text, has_hard = _look_up(text, batch["hard_index"])
            hard_region = output.region_embeds.flatten(0, 1)[batch["hard_region_index"]]
            losses["hard"] = hard_negative_loss(hard_region, hard_text, hard_scale, has_hard)
        return losses

    def _identity(self, batch: dict[str, torch.Tensor], index: str) -> torch.Tensor | None:
        return batch["text_hash"][batch[index].clamp(min=0)] if self.mask_duplicates else None


def _look_up(text: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(…, D) embeddings of the texts that an index names, and where it names one."""
    return text[index.clamp(min=0)], index != NO_TEXT
