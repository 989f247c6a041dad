"""The vision encoder alone, as a model of transformers' own: for AutoModel, detectors and LLaVA."""

import math
from typing import Any

import torch
from transformers import CLIPVisionModel, ProcessorMixin, SiglipVisionConfig, SiglipVisionModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from .family import FGCLIP2, family_of
from .modeling_fgclip import FGCLIPModel
from .modeling_fgclip2 import FGCLIP2Model


def vision_tower(
    model: FGCLIPModel | FGCLIP2Model, processor: ProcessorMixin, image_size: int | None = None
) -> tuple[CLIPVisionModel | SiglipVisionModel, Any]:
    """The encoder with the weights of an FG-CLIP, and its image processor; saved, AutoModel loads it without code of ours.

    Inside LLaVA: `LlavaConfig(vision_config=tower.config, …)`, then load its weights into the model's vision tower.

    Args:
        model: FG-CLIP gives a CLIPVisionModel. FG-CLIP 2 gives a SiglipVisionModel of fixed square images, which every
            program that knows SigLIP can run; it gives what FG-CLIP 2 gives for such an image.
        processor: the model's.
        image_size: side of the square images of FG-CLIP 2's tower; by default that of the trained position grid.

    Returns:
        The tower in evaluation mode, and its image processor.

    Raises:
        ValueError: `image_size` for an FG-CLIP, or one that is no multiple of the patch size.
    """
    if family_of(model) is FGCLIP2:
        return _square_siglip(model, processor, image_size)
    if image_size is not None:
        raise ValueError("Received image_size; FG-CLIP's tower keeps the size it was trained at.")
    tower = CLIPVisionModel(model.vision_model.config).to(model.dtype)
    with torch.no_grad():
        tower.load_state_dict(_under_names_of(tower, model.vision_model.state_dict()))
    return tower.eval(), processor.image_processor


def _square_siglip(
    model: FGCLIP2Model, processor: ProcessorMixin, image_size: int | None
) -> tuple[SiglipVisionModel, SiglipImageProcessorPil]:
    vision = model.config.vision_config
    patch = vision.patch_size
    image_size = image_size or patch * math.isqrt(vision.num_patches)
    if image_size < patch or image_size % patch:
        raise ValueError(f"Received image_size={image_size}; it must be a multiple of the patch size {patch}.")
    shared = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels")
    shared += ("patch_size", "hidden_act", "layer_norm_eps", "attention_dropout")
    config = SiglipVisionConfig(image_size=image_size, **{name: getattr(vision, name) for name in shared})
    tower = SiglipVisionModel(config).to(model.dtype)
    state = dict(model.vision_model.state_dict())
    # A patch is flattened row by row, its channels last; the kernel of a convolution has them first.
    kernel = state["embeddings.patch_embedding.weight"].unflatten(1, (patch, patch, vision.num_channels))
    state["embeddings.patch_embedding.weight"] = kernel.permute(0, 3, 1, 2).contiguous()
    side = image_size // patch
    shape = torch.tensor([[side, side]], device=model.device)
    with torch.no_grad():
        positions = model.vision_model.embeddings.position_embeddings(shape, side * side)[0]
        state["embeddings.position_embedding.weight"] = positions
        tower.load_state_dict(_under_names_of(tower, state))
    kept = ("resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
    settings = {name: getattr(processor.image_processor, name) for name in kept}
    images = SiglipImageProcessorPil(size={"height": image_size, "width": image_size}, do_convert_rgb=True, **settings)
    return tower.eval(), images


def _under_names_of(tower: torch.nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers 5.17 keeps the encoder one level deeper than 5.23 in one of the classes."""
    wanted = tower.state_dict().keys()
    for prefix in ("", "vision_model."):
        renamed = {prefix + name: tensor for name, tensor in state.items()}
        if renamed.keys() == wanted:
            return renamed
    missing = sorted(wanted - state.keys())[:3]
    raise ValueError(
        f"This version of transformers names the tensors of {type(tower).__name__} otherwise: {missing}, …"
    )


__all__ = ["vision_tower"]
