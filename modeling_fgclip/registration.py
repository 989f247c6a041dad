"""FG-CLIP and FG-CLIP 2 behind the transformers Auto classes and `pipeline`. Importing any class of the package does it."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

# Not from the top, where transformers 5.17 hides it without torchvision.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_fgclip import FGCLIPConfig, FGCLIPTextConfig
from .configuration_fgclip2 import FGCLIP2Config, FGCLIP2TextConfig, FGCLIP2VisionConfig
from .image_processing_fgclip2 import FGCLIP2ImageProcessor
from .modeling_fgclip import FGCLIPModel
from .modeling_fgclip2 import FGCLIP2Model
from .pipeline_fgclip import TASK, RegionClassificationPipeline
from .processing_fgclip import FGCLIPProcessor
from .processing_fgclip2 import FGCLIP2Processor

for config_class, model_class, processor_class in (
    (FGCLIPConfig, FGCLIPModel, FGCLIPProcessor),
    (FGCLIP2Config, FGCLIP2Model, FGCLIP2Processor),
):
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    for auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification):
        auto_class.register(config_class, model_class, exist_ok=True)
    AutoProcessor.register(config_class, processor_class, exist_ok=True)
if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(TASK, RegionClassificationPipeline, pt_model=AutoModel, type="multimodal")
AutoImageProcessor.register(FGCLIP2Config, slow_image_processor_class=FGCLIP2ImageProcessor, exist_ok=True)

__all__ = [
    "FGCLIP2Config",
    "FGCLIP2ImageProcessor",
    "FGCLIP2Model",
    "FGCLIP2Processor",
    "FGCLIP2TextConfig",
    "FGCLIP2VisionConfig",
    "FGCLIPConfig",
    "FGCLIPModel",
    "FGCLIPProcessor",
    "FGCLIPTextConfig",
]
