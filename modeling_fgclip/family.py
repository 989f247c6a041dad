"""FG-CLIP or FG-CLIP 2: decided here, by `model_type`, and nowhere by the class of an object.

Stays here: it does not travel with checkpoints.
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, ProcessorMixin

from . import (
    configuration_fgclip,
    configuration_fgclip2,
    modeling_fgclip,
    modeling_fgclip2,
    pipeline_fgclip,
    processing_fgclip,
    processing_fgclip2,
    registration,  # noqa: F401  or the Auto class of the tokenizer would ask to run a repository's code
)


@dataclass(frozen=True)
class Family:
    """What belongs to one of the two families.

    Args:
        name: in texts.
        model_type: of its own checkpoints.
        starts_from: model types of checkpoints that its model class loads as well.
        code: modules whose files, with what they import, travel with a checkpoint.
    """

    name: str
    model_type: str
    starts_from: tuple[str, ...]
    config: type[PreTrainedConfig]
    model: type[nn.Module]
    processor: type[ProcessorMixin]
    auto_map: dict[str, str]
    code: tuple[ModuleType, ...]

    def load(self, checkpoint: str | Path, **kwargs: Any) -> tuple[nn.Module, ProcessorMixin]:
        """Model and processor; `kwargs` go to the model, `revision` to both."""
        place = {"revision": kwargs["revision"]} if kwargs.get("revision") else {}
        return self.model.from_pretrained(checkpoint, **kwargs), self.processor.from_pretrained(checkpoint, **place)


FGCLIP = Family(
    name="FG-CLIP",
    model_type="fgclip",
    starts_from=("clip",),
    config=configuration_fgclip.FGCLIPConfig,
    model=modeling_fgclip.FGCLIPModel,
    processor=processing_fgclip.FGCLIPProcessor,
    auto_map=configuration_fgclip.AUTO_MAP,
    code=(modeling_fgclip, processing_fgclip, pipeline_fgclip),
)
FGCLIP2 = Family(
    name="FG-CLIP 2",
    model_type="fgclip2",
    starts_from=("siglip2",),
    config=configuration_fgclip2.FGCLIP2Config,
    model=modeling_fgclip2.FGCLIP2Model,
    processor=processing_fgclip2.FGCLIP2Processor,
    auto_map=configuration_fgclip2.AUTO_MAP,
    code=(modeling_fgclip2, processing_fgclip2, pipeline_fgclip),
)
FAMILIES = {family.model_type: family for family in (FGCLIP, FGCLIP2)}


def family_of(what: str | Path | PreTrainedConfig | nn.Module, **kwargs: Any) -> Family:
    """The family of a checkpoint, a configuration or a model.

    Args:
        what: folder or Hub id, configuration, or model.
        kwargs: where a checkpoint lies (`revision`, …).

    Raises:
        ValueError: for a checkpoint of neither.
    """
    if isinstance(what, nn.Module):
        what = what.config
    if isinstance(what, PreTrainedConfig):
        model_type = what.model_type
    else:
        model_type = PreTrainedConfig.get_config_dict(what, **kwargs)[0].get("model_type")
    return family_of_type(model_type, str(what) if isinstance(what, (str, Path)) else type(what).__name__)


def family_of_type(model_type: str | None, source: str) -> Family:
    for family in FAMILIES.values():
        if model_type == family.model_type or model_type in family.starts_from:
            return family
    known = ", ".join(name for family in FAMILIES.values() for name in (family.model_type, *family.starts_from))
    raise ValueError(f"{source} is of type {model_type!r}; FG-CLIP and FG-CLIP 2 are made of {known} checkpoints.")


__all__ = ["FAMILIES", "FGCLIP", "FGCLIP2", "Family", "family_of", "family_of_type"]
