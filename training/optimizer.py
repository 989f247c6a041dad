"""Parameter groups: what decays, and what learns at a rate of its own."""

from torch import nn

from .forward import TEXT_PREFIXES
from .temperatures import TEMPERATURES


def parameter_groups(
    model: nn.Module, weight_decay: float, learning_rate: float, text_learning_rate: float | None = None
) -> list[dict]:
    """Groups for AdamW. Only matrices decay: never biases, norms, the class embedding or temperatures.

    Args:
        text_learning_rate: for the text encoder and its projections; `learning_rate` if left out.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.dim() >= 2 and name not in TEMPERATURES
        is_text = name.startswith(TEXT_PREFIXES) and text_learning_rate is not None
        key = (text_learning_rate if is_text else learning_rate, weight_decay if decays else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
