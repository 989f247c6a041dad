"""FG-CLIP behind the transformers Auto classes.

Everything in this folder but this file travels with a checkpoint saved by `save_pretrained`, so it imports nothing but
torch and transformers.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

from .configuration_fgclip import FGCLIPConfig, FGCLIPTextConfig
from .modeling_fgclip import FGCLIPModel
from .output import FGCLIPOutput
from .packed_text import PackedTexts, pack_texts
from .processing_fgclip import FGCLIPProcessor

__version__ = "0.1.0.dev0"

AutoConfig.register("fgclip", FGCLIPConfig, exist_ok=True)
for auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification):
    auto_class.register(FGCLIPConfig, FGCLIPModel, exist_ok=True)
AutoProcessor.register(FGCLIPConfig, FGCLIPProcessor, exist_ok=True)

__all__ = [
    "FGCLIPConfig",
    "FGCLIPModel",
    "FGCLIPOutput",
    "FGCLIPProcessor",
    "FGCLIPTextConfig",
    "PackedTexts",
    "pack_texts",
]
