"""FSDP2 over what `configs/fsdp2.yaml` names, as accelerate does it."""

from pathlib import Path

import yaml
from torch import nn
from torch.distributed.fsdp import fully_shard

CONFIG = Path(__file__).parents[2] / "training" / "configs" / "fsdp2.yaml"


def shard(model: nn.Module, **settings) -> nn.Module:
    named = yaml.safe_load(CONFIG.read_text())["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"].split(",")
    for module in model.modules():
        if type(module).__name__ in named:
            fully_shard(module, **settings)
    return fully_shard(model, **settings)
