"""torch.compile where it pays on packed texts."""

import torch

from modeling_fgclip import FGCLIPModel


def compile_encoders(model: FGCLIPModel, backend: str = "inductor", mode: str | None = None) -> None:
    """Compiles, in place, the vision blocks whole and of the text blocks what works on single tokens.

    All blocks of an encoder are one graph that is compiled once. Texts are packed: how many tokens there are changes
    with each batch, so that dimension is dynamic; their attention is a variable-length kernel already, whose lengths
    on the host would make a new graph of every batch. Names in the state dict do not change.
    """
    # Blocks differ in their weights alone, but dynamo gives each its own entry in one cache.
    blocks = len(model.vision_model.encoder.layers) + len(model.text_model.encoder.layers)
    torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, 8 * blocks)
    settings = {"backend": backend, "mode": mode}
    for block in model.vision_model.encoder.layers[:-1]:
        block.compile(**settings)
    for block in model.text_model.encoder.layers:
        for part in (block.mlp, block.layer_norm1, block.layer_norm2):
            part.compile(dynamic=True, **settings)
