"""Parameter groups: the projector may learn at a rate of its own."""

from torch import nn

PROJECTOR = "multi_modal_projector."


def parameter_groups(
    model: nn.Module, weight_decay: float, learning_rate: float, projector_learning_rate: float | None = None
) -> list[dict]:
    """Groups for AdamW. Only matrices decay.

    Args:
        projector_learning_rate: `learning_rate` if left out (LLaVA with LoRA: 2e-5 beside 2e-4).
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        own = projector_learning_rate is not None and PROJECTOR in name
        # ZeRO-3 keeps a shard in place of the matrix, and the shape aside.
        dimensions = len(getattr(parameter, "ds_shape", parameter.shape))
        key = (projector_learning_rate if own else learning_rate, weight_decay if dimensions >= 2 else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
