"""CLIPSelf: a region's dense features against a frozen teacher's view of its crop."""

import torch

from .self_distillation import cosine_loss
from .term import Exchange, Step, Term


def _loss(step: Step, scale: None) -> torch.Tensor:
    return cosine_loss(step.cropped_regions(), step.output.teacher_embeds)


# Wu et al., ICLR 2024, with region proposals; alone, as there: `--losses distillation`. The teacher is the model that
# training starts from. No text takes part, so the text encoder stands still. Their public code (wusize/CLIPSelf) also
# averages the trained weights with the teacher's when it saves (--alpha 0.7), which is not done here.
TERM = Term(
    "distillation",
    1.0,
    _loss,
    needs=frozenset({"regions", "teacher"}),
    exchanges=(Exchange("cropped regions", "regions"),),
)
