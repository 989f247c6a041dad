"""The vision encoder alone, as transformers' own CLIPVisionModel: for AutoModel, detectors and LLaVA."""

import torch
from transformers import CLIPVisionModel

from .modeling_fgclip import FGCLIPModel


def vision_tower(model: FGCLIPModel) -> CLIPVisionModel:
    """A CLIPVisionModel with the weights of an FG-CLIP; saved, AutoModel loads it without any code of ours.

    Inside LLaVA: `LlavaConfig(vision_config=tower.config, …)`, then load its weights into the model's vision tower.
    """
    tower = CLIPVisionModel(model.vision_model.config).to(model.dtype)
    with torch.no_grad():
        tower.load_state_dict(_under_names_of(tower, model.vision_model.state_dict()))
    return tower.eval()


def _under_names_of(tower: CLIPVisionModel, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers 5.17 keeps the encoder one level deeper than 5.23 in one of the two classes."""
    wanted = tower.state_dict().keys()
    for prefix in ("", "vision_model."):
        renamed = {prefix + name: tensor for name, tensor in state.items()}
        if renamed.keys() == wanted:
            return renamed
    missing = sorted(wanted - state.keys())[:3]
    raise ValueError(f"This version of transformers names the tensors of CLIPVisionModel otherwise: {missing}, …")


__all__ = ["vision_tower"]
