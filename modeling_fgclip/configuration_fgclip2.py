"""Configuration of FG-CLIP 2: SigLIP 2 NaFlex's, with a second table of positions for long text."""

import math
from typing import Any

from transformers import Siglip2Config, Siglip2TextConfig, Siglip2VisionConfig

from .zero_shot_fgclip2 import register

try:
    from transformers import PreTrainedConfig
except ImportError as error:
    raise ImportError("FG-CLIP 2 needs transformers 5.17 or newer: `pip install --upgrade transformers`.") from error

from .integrations import custom_pipelines, take_pipelines

# What a folder written by `save_pretrained` tells the Auto classes to load.
AUTO_MAP = {
    "AutoConfig": "configuration_fgclip2.FGCLIP2Config",
    "AutoModel": "modeling_fgclip2.FGCLIP2Model",
    "AutoModelForCausalLM": "modeling_fgclip2.FGCLIP2Model",
    "AutoModelForZeroShotImageClassification": "modeling_fgclip2.FGCLIP2Model",
}

# SigLIP's historical defaults, which published configurations repeat although their tokenizer (Gemma's) has others.
_HISTORICAL_IDS = {"pad_token_id": 1, "bos_token_id": 49406, "eos_token_id": 49407}
_TRUE_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}

# Which class loads what FG-CLIP 2 cannot.
_OTHER_FAMILIES = {
    "fgclip": "This is FG-CLIP 1: load it with `FGCLIPModel`.",
    "clip": "This is CLIP or FG-CLIP 1: load it with `FGCLIPModel`.",
    "siglip": "This is a SigLIP of fixed resolution (SigLIP 2's fixed ones have this type too), whose patches are a "
    "convolution; start from a NaFlex checkpoint such as google/siglip2-base-patch16-naflex.",
}


# Here, because transformers chooses a pipeline's class after it has read the configuration and before the model's code.
register()


class FGCLIP2TextConfig(Siglip2TextConfig):
    """SigLIP 2's text configuration with a longer table of positions beside the short one.

    Args:
        keep_len: leading positions that long text shares with short text unchanged (published: 20).
        longtext_len: tokens of a long text (published: 196 = 20 + 4 * (64 - 20)); by default four times as many
            positions after the kept ones. The two names are the published ones.
    """

    model_type = "fgclip2_text_model"
    base_config_key = "text_config"

    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1
    keep_len: int = 20
    longtext_len: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        short, kept = self.max_position_embeddings, self.keep_len
        if not 0 <= kept < short:
            raise ValueError(f"keep_len must lie in [0, max_position_embeddings={short}), got {kept}.")
        if self.longtext_len is None:
            self.longtext_len = kept + 4 * (short - kept)
        if self.longtext_len <= kept or (self.longtext_len - kept) % (short - kept):
            raise ValueError(
                f"longtext_len must be keep_len plus a multiple of the {short - kept} positions after it (published: "
                f"20 + 4 * 44 = 196), got {self.longtext_len} with keep_len={kept}."
            )
        if {name: getattr(self, name) for name in _HISTORICAL_IDS} == _HISTORICAL_IDS:
            for name, value in _TRUE_IDS.items():
                setattr(self, name, value)
        super().__post_init__(**kwargs)

    @property
    def max_long_position_embeddings(self) -> int:
        """Tokens of a long text, under the name that FG-CLIP has for it."""
        return self.longtext_len

    @property
    def position_stretch(self) -> int:
        """Factor by which the positions after the kept ones are interpolated."""
        return (self.longtext_len - self.keep_len) // (self.max_position_embeddings - self.keep_len)


class FGCLIP2VisionConfig(Siglip2VisionConfig):
    """SigLIP 2's vision configuration, unchanged."""

    model_type = "fgclip2_vision_model"
    base_config_key = "vision_config"


class FGCLIP2Config(Siglip2Config):
    """Configuration of [`FGCLIP2Model`]. Reads published FG-CLIP 2 configurations and those of SigLIP 2 NaFlex.

    Args:
        logit_scale_init_value, logit_bias_init_value: of a model without weights (SigLIP, Zhai et al. 2023: ln 10 and
            -10).
        fine_logit_scale_init_value: of the regional and the hard-negative temperature, which published checkpoints lack
            (published training: ln 100).
    """

    model_type = "fgclip2"
    # transformers 5.23 reads the first name, 5.17 the second.
    sub_configs_defaults = {"text_config": FGCLIP2TextConfig, "vision_config": FGCLIP2VisionConfig}  # noqa: RUF012
    sub_configs = {"text_config": FGCLIP2TextConfig, "vision_config": FGCLIP2VisionConfig}  # noqa: RUF012

    logit_scale_init_value: float = math.log(10)
    logit_bias_init_value: float = -10.0
    fine_logit_scale_init_value: float = 4.6052

    def __post_init__(self, **kwargs: Any) -> None:
        self.text_config = _sub_config(FGCLIP2TextConfig, self.text_config)
        self.vision_config = _sub_config(FGCLIP2VisionConfig, self.vision_config)
        take_pipelines(self, kwargs)
        # Past Siglip2Config, which in transformers 5.17 would turn the sub-configurations into SigLIP's own.
        super(Siglip2Config, self).__post_init__(**kwargs)
        self.auto_map = dict(AUTO_MAP)
        text_width, image_width = self.text_config.projection_size, self.vision_config.hidden_size
        if text_width != image_width:
            raise ValueError(
                f"Text features are {text_width} wide and image features {image_width}; FG-CLIP 2 has no projection of "
                "images, so text_config.projection_size must equal vision_config.hidden_size."
            )
        if self.text_config.hidden_size != text_width:
            raise ValueError(
                f"text_config.hidden_size is {self.text_config.hidden_size} and projection_size {text_width}; the box and "
                "long text heads of FG-CLIP 2 are square, so they must be equal."
            )
        if math.isqrt(self.vision_config.num_patches) ** 2 != self.vision_config.num_patches:
            raise ValueError(
                f"vision_config.num_patches must be a square number (published: 256), got {self.vision_config.num_patches}."
            )

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "custom_pipelines": custom_pipelines()}

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads an FG-CLIP 2 configuration, or one of SigLIP 2 NaFlex.

        Raises:
            ValueError: for any other model, naming the class that loads it.
        """
        config_dict, kwargs = super().get_config_dict(*args, **kwargs)
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type not in ("fgclip2", "siglip2"):
            raise ValueError(
                f"Received a checkpoint of type {model_type!r}; FG-CLIP 2 loads 'fgclip2' and 'siglip2' (NaFlex) "
                "checkpoints. " + _OTHER_FAMILIES.get(model_type, "Use the class that belongs to this checkpoint.")
            )
        return {**config_dict, "model_type": cls.model_type}, kwargs


def _sub_config(
    config_class: type[PreTrainedConfig], config: PreTrainedConfig | dict[str, Any] | None
) -> PreTrainedConfig:
    if isinstance(config, config_class):
        return config
    values = config.to_dict() if isinstance(config, PreTrainedConfig) else dict(config or {})
    return config_class(**{key: values[key] for key in values if key not in ("model_type", "transformers_version")})


__all__ = ["FGCLIP2Config", "FGCLIP2TextConfig", "FGCLIP2VisionConfig"]
