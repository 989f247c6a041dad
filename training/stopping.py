"""A run that is told to stop finishes its step, saves a checkpoint, and says how to go on."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from transformers import Trainer, TrainerCallback

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A terminal and a launcher both tell a process: within so many seconds it is one order.
SAME_ORDER_SECONDS = 2.0


class Stopped(SystemExit):
    """The run was told to stop. Its code is the one of shells: 130 after Ctrl-C, 143 after SIGTERM."""

    def __init__(self, number: int):
        super().__init__(128 + number)


class StopOnSignal(TrainerCallback):
    """Notes SIGTERM and Ctrl-C, and stops the run when all processes know: after the step, with a checkpoint.

    A second signal stops at once.

    Attributes:
        received: the signal that this process got; 0 for none.
        agreed: the one that all processes know of (`training/watching.py`).
    """

    def __init__(self) -> None:
        self.received = self.agreed = 0
        self._since = 0.0
        self._listens = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While signals are noted instead of ending the process. In another thread than the main one, they are not."""
        if self._listens or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        self._listens = True
        try:
            yield
        finally:
            self._listens = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.agreed:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs) -> None:
        if not self.agreed:
            return
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            how = (
                "start from its weights" if args.save_only_model else "give the same command again to go on from there"
            )
            name = signal.Signals(self.agreed).name
            logger.warning("Stopped by %s after step %d; saved %s: %s.", name, state.global_step, folder, how)
        raise Stopped(self.agreed)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and time.monotonic() - self._since > SAME_ORDER_SECONDS:
            raise Stopped(number)
        if not self.received:
            self.received, self._since = number, time.monotonic()


@contextmanager
def stopping(trainer: Trainer) -> Iterator[None]:
    """Around the training of a trainer whose callback `stop` is: loggers are closed before a stopped run ends."""
    with trainer.stop.listening():
        try:
            yield
        except Stopped:
            trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
            trainer.accelerator.end_training()
            raise


def outlive_signals(worker: int) -> None:
    """In a data worker: a signal to all processes of a run is for the one it reads for, which still needs its batches.

    A terminal's Ctrl-C and a scheduler's SIGTERM reach workers too. What the parent sends ends them as before.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on a Mac
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
