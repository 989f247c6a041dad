"""FG-CLIP and FG-CLIP 2 behind the transformers Auto classes.

Everything in this folder that a family's model, processor or pipeline imports travels with a checkpoint saved by
`save_pretrained`, so it imports nothing but torch and transformers. Both wait until a name below is asked for: the rest of
the project opens images and checks texts with the small modules here.
"""

from .lazy_names import lazy_names

__version__ = "0.1.0.dev0"

__getattr__, __all__ = lazy_names(
    __name__,
    {
        # Registers all of them, whichever is asked for.
        "registration": [
            *("FGCLIPConfig", "FGCLIPModel", "FGCLIPProcessor", "FGCLIPTextConfig"),
            *("FGCLIP2Config", "FGCLIP2ImageProcessor", "FGCLIP2Model", "FGCLIP2Processor"),
            *("FGCLIP2TextConfig", "FGCLIP2VisionConfig"),
        ],
        "output": ["FGCLIPOutput"],
        "packed_text": ["PackedTexts", "pack_texts"],
        "full_texts": ["FullTexts", "pack_full_texts"],
    },
)
