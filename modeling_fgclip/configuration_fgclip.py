"""Configuration of FG-CLIP: CLIP's, with long text positions and region pooling."""

from typing import Any

from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

try:
    from transformers import PreTrainedConfig
except ImportError as error:
    raise ImportError("FG-CLIP needs transformers 5.17 or newer: `pip install --upgrade transformers`.") from error

from .integrations import custom_pipelines, take_pipelines

# What a folder written by `save_pretrained` tells the Auto classes to load.
AUTO_MAP = {
    "AutoConfig": "configuration_fgclip.FGCLIPConfig",
    "AutoModel": "modeling_fgclip.FGCLIPModel",
    "AutoModelForCausalLM": "modeling_fgclip.FGCLIPModel",
    "AutoModelForZeroShotImageClassification": "modeling_fgclip.FGCLIPModel",
}


class FGCLIPTextConfig(CLIPTextConfig):
    """CLIP's text configuration with a second, longer table of positions.

    Args:
        kept_positions: leading positions that long text shares with CLIP unchanged (paper, section 3.1: 20).
        position_stretch: factor by which the positions after them are interpolated (paper, section 3.1: 4).
    """

    model_type = "fgclip_text_model"
    base_config_key = "text_config"

    kept_positions: int = 20
    position_stretch: int = 4

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if not 0 <= self.kept_positions < self.max_position_embeddings:
            raise ValueError(
                f"kept_positions must lie in [0, max_position_embeddings={self.max_position_embeddings}), "
                f"got {self.kept_positions}."
            )
        if self.position_stretch < 1:
            raise ValueError(f"position_stretch must be at least 1, got {self.position_stretch}.")

    @property
    def max_long_position_embeddings(self) -> int:
        """Tokens of a long text: 20 + 4 * (77 - 20) = 248 for CLIP's 77 positions."""
        return self.kept_positions + self.position_stretch * (self.max_position_embeddings - self.kept_positions)


class FGCLIPConfig(CLIPConfig):
    """Configuration of [`FGCLIPModel`].

    Published checkpoints carry `model_type: clip` and CLIP's historical `eos_token_id: 2`. Reading such a
    configuration with [`~FGCLIPConfig.from_pretrained`] puts the token ids right.

    Args:
        roi_pooling_size: bins a side into which a region is divided before its bins are averaged (published: 1).
    """

    model_type = "fgclip"
    # transformers 5.23 reads the first name, 5.17 the second.
    sub_configs_defaults = {"text_config": FGCLIPTextConfig, "vision_config": CLIPVisionConfig}  # noqa: RUF012
    sub_configs = {"text_config": FGCLIPTextConfig, "vision_config": CLIPVisionConfig}  # noqa: RUF012

    roi_pooling_size: int = 1

    def __post_init__(self, **kwargs: Any) -> None:
        # Older checkpoints repeat the sub-configurations under the names `…_config_dict`.
        text_overrides = kwargs.pop("text_config_dict", None)
        vision_overrides = kwargs.pop("vision_config_dict", None)
        self.text_config = _sub_config(FGCLIPTextConfig, self.text_config, text_overrides)
        self.vision_config = _sub_config(CLIPVisionConfig, self.vision_config, vision_overrides)
        # Past CLIPConfig, which in transformers 5.17 would turn the text configuration into CLIP's own.
        take_pipelines(self, kwargs)
        super(CLIPConfig, self).__post_init__(**kwargs)
        self.auto_map = dict(AUTO_MAP)
        if self.roi_pooling_size < 1:
            raise ValueError(f"roi_pooling_size must be at least 1, got {self.roi_pooling_size}.")

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "custom_pipelines": custom_pipelines()}

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads an FG-CLIP configuration, or a CLIP one (published FG-CLIP repositories carry CLIP's model type)."""
        config_dict, kwargs = super().get_config_dict(*args, **kwargs)
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type not in ("fgclip", "clip"):
            raise ValueError(
                f"Received a checkpoint of type {model_type!r}; FG-CLIP loads 'fgclip' and 'clip' checkpoints. "
                + (
                    "Load this one with `FGCLIP2Model`."
                    if model_type in ("fgclip2", "siglip2")
                    else "Use the class that belongs to it, or start from a CLIP one with `FGCLIPModel.from_clip`."
                )
            )
        if model_type == "clip":
            text_config = _with_true_token_ids(config_dict.get("text_config") or {})
            config_dict = {**config_dict, "model_type": cls.model_type, "text_config": text_config}
        return config_dict, kwargs


def _sub_config(
    config_class: type[PreTrainedConfig],
    config: PreTrainedConfig | dict[str, Any] | None,
    overrides: dict[str, Any] | None,
) -> PreTrainedConfig:
    if isinstance(config, config_class):
        return config
    values = config.to_dict() if isinstance(config, PreTrainedConfig) else dict(config or {})
    values |= overrides or {}
    return config_class(**{key: values[key] for key in values if key not in ("model_type", "transformers_version")})


def _with_true_token_ids(text_config: dict[str, Any]) -> dict[str, Any]:
    """CLIP's historical `eos_token_id: 2` means "the highest id", which is also what its tokenizer pads with."""
    if text_config.get("eos_token_id", 2) != 2:
        return text_config
    eos_token_id = text_config.get("vocab_size", CLIPTextConfig().vocab_size) - 1
    return {
        **text_config,
        "bos_token_id": eos_token_id - 1,
        "eos_token_id": eos_token_id,
        "pad_token_id": eos_token_id,
    }


__all__ = ["FGCLIPConfig", "FGCLIPTextConfig"]
