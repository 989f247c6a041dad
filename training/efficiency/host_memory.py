"""Memory of a training run on a CPU: what is free goes back to the system."""

from transformers import TrainerCallback

from eval.host_memory import give_back_memory


class GiveBackHostMemory(TrainerCallback):
    """Gives freed memory back after each step."""

    def on_step_end(self, args, state, control, **kwargs) -> None:
        give_back_memory()
