"""Memory of a training run on a CPU: what is free goes back to the system."""

from transformers import TrainerCallback

from eval.host_memory import give_back_memory

# Each time, the next step must ask the system for its pages again: after every step a third more time, after every
# tenth none to be measured.
STEPS = 10


class GiveBackHostMemory(TrainerCallback):
    """Gives freed memory back after every tenth step."""

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step % STEPS == 0:
            give_back_memory()
