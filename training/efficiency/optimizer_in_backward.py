"""The optimizer's step as a part of the backward pass, so that no two gradients are held at once."""

import torch


class OptimizerInBackward:
    """Updates each parameter as soon as its gradient is whole, and frees the gradient.

    Updates equal those of a step after the backward pass; what needs all gradients together, such as clipping them by
    their norm, and what needs them longer, such as accumulating them or averaging them over processes, cannot be had.
    Saves the memory of the gradients, as much as the weights take.

    Args:
        optimizer: one whose update of a parameter depends on no other, such as AdamW. Its state and its param groups
            are used as they are when a gradient arrives, so schedulers and checkpoints work as usual.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self._optimizer = optimizer
        self._norms: list[torch.Tensor] = []
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.register_post_accumulate_grad_hook(self._step)

    def begin(self) -> None:
        """Call it before each backward pass."""
        self._norms.clear()

    def gradient_norm(self) -> float:
        """Of all parameters, in the last backward pass."""
        return torch.stack(self._norms).norm().item() if self._norms else 0.0

    def _step(self, parameter: torch.Tensor) -> None:
        self._norms.append(parameter.grad.norm())
        # No other parameter has a gradient now, and those without one are passed over.
        self._optimizer.step()
        parameter.grad = None
