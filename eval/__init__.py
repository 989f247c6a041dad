"""Zero-shot evaluation of FG-CLIP and its peers: `evaluate_model(...)`, or `fgclip eval --help`."""

from modeling_fgclip.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(
    __name__, {"results": ["Result", "Score", "write_results"], "runner": ["evaluate_model"]}
)
