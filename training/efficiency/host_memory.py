"""Memory of a training run that stays flat; a callback of every trainer."""

from transformers import TrainerCallback

from eval.host_memory import give_back_memory, settle_memory

# Each time, the next step must ask the system for its pages again: after every step a third more time, after every
# tenth none to be measured.
STEPS = 10


class FlatMemory(TrainerCallback):
    """Settles what bounds memory when it is made; on a CPU, gives freed memory back after every tenth step."""

    def __init__(self) -> None:
        settle_memory()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if args.device.type == "cpu" and state.global_step % STEPS == 0:
            give_back_memory()
