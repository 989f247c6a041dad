"""The rows of a table: from which checkpoint each starts, and what it minimizes."""

from dataclasses import dataclass

from training.arguments import FGCLIPTrainingArguments, Stage1Arguments, Stage2Arguments
from training.options import STAGE1_LOSSES, STAGE2_LOSSES


@dataclass(frozen=True)
class Variant:
    """One row: `losses` as on the command line of a stage."""

    name: str
    start: str
    stage: type[FGCLIPTrainingArguments]
    losses: tuple[str, ...]

    @property
    def folder(self) -> str:
        return "".join(letter if letter.isalnum() else "_" for letter in self.name).strip("_")


STAGE_1 = Variant("stage 1", "random", Stage1Arguments, STAGE1_LOSSES)


def _stage_2(name: str, *losses: str) -> Variant:
    return Variant(name, STAGE_1.folder, Stage2Arguments, losses)


# What each loss adds, one at a time.
TABLE_6 = (
    STAGE_1,
    _stage_2("stage 2 global", "global"),
    _stage_2("stage 2 + regional", "global", "regional"),
    _stage_2("stage 2 + regional + hard", *STAGE2_LOSSES),
)
# Other methods on the same data, from the same start; their losses and weights are those of their public code.
TABLE_8 = (
    STAGE_1,
    _stage_2("CLIPSelf", "distillation"),
    _stage_2("Long-CLIP", "long_clip"),
    _stage_2("FineCLIP", "global", "regional=1", "self_distillation"),
    _stage_2("FG-CLIP", *STAGE2_LOSSES),
    # The paper's weight of the regional loss is a tenth of FineCLIP's: with FineCLIP's, what is left is the method.
    _stage_2("FG-CLIP regional=1", "global", "regional=1", "hard"),
)
TABLES = {6: TABLE_6, 8: TABLE_8}
