"""What a plan counts differently for FG-CLIP and FG-CLIP 2."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedConfig

import training
from training.objective import Objective, parse_losses
from training.options import STAGE1_LOSSES, STAGE2_LOSSES

from . import flops, flops_fgclip2
from .memory import Encoder, fgclip2_encoders, fgclip_encoders

Groups = list[tuple[int, int]]


@dataclass(frozen=True)
class Texts:
    """Texts of a batch: how many of each kind, and their mean tokens, start and end included."""

    images: int
    phrases: int
    short_tokens: int
    long_tokens: int
    phrase_tokens: int


@dataclass(frozen=True)
class PlannedFamily:
    """
    Args:
        losses: of each stage, as in `--losses`.
        width: of embeddings.
        patches: of an image, where nothing else is asked for.
        fixed_patches: whether no other number is possible.
        length_groups: (rows, tokens of each) pairs that the text encoder works on.
        step_flops: of a configuration, images, patches of each, the groups, the number of texts, and places for regions
            an image (None without regions).
        encoders: see `memory.fgclip_encoders`.
    """

    losses: dict[int, Sequence[str]]
    width: Callable[[Any], int]
    patches: Callable[[Any], int]
    fixed_patches: bool
    length_groups: Callable[[Any, Texts], Groups]
    step_flops: Callable[[Any, int, int, Groups, int, float | None], int]
    encoders: Callable[..., list[Encoder]]

    def objective(self, stage: int) -> Objective:
        return Objective(parse_losses(self.losses[stage]))


def _recipe_losses(stage: int) -> list[str]:
    recipe = Path(training.__file__).parent / "recipes" / f"stage{stage}_fgclip2.yaml"
    return yaml.safe_load(recipe.read_text())["losses"]


def _fgclip_groups(config: Any, texts: Texts) -> Groups:
    groups = [
        (texts.images, texts.short_tokens),
        (texts.images, texts.long_tokens),
        (texts.phrases, texts.phrase_tokens),
    ]
    return [group for group in groups if group[0]]


def _fgclip2_groups(config: Any, texts: Texts) -> Groups:
    text = config.text_config
    return [
        (texts.images + texts.phrases, text.max_position_embeddings),
        (texts.images, text.max_long_position_embeddings),
    ]


_FGCLIP = PlannedFamily(
    losses={1: STAGE1_LOSSES, 2: STAGE2_LOSSES},
    width=lambda config: config.projection_dim,
    patches=lambda config: (config.vision_config.image_size // config.vision_config.patch_size) ** 2,
    fixed_patches=True,
    length_groups=_fgclip_groups,
    step_flops=lambda config, images, patches, groups, texts, places: flops.step_flops(
        config, images, patches, groups, None if places is None else round(images * places)
    ),
    encoders=fgclip_encoders,
)
_FGCLIP2 = PlannedFamily(
    losses={stage: _recipe_losses(stage) for stage in (1, 2)},
    width=lambda config: config.vision_config.hidden_size,
    patches=lambda config: 1024,  # the largest published budget, which photographs of 512 pixels fill
    fixed_patches=False,
    length_groups=_fgclip2_groups,
    step_flops=lambda config, images, patches, groups, texts, places: flops_fgclip2.step_flops(
        config, [patches] * images, groups, texts, places
    ),
    encoders=fgclip2_encoders,
)
_FAMILIES = {"fgclip": _FGCLIP, "fgclip2": _FGCLIP2}


def planned_family(config: PreTrainedConfig) -> PlannedFamily:
    return _FAMILIES[config.model_type]
