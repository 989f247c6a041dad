"""An exponential moving average of the weights, kept beside them in float32."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback

from modeling_fgclip import FGCLIPModel
from training.temperatures import checkpoint_state

FOLDER = "ema"


class WeightAverage(TrainerCallback):
    """Averages after every optimizer step: average = decay * average + (1 - decay) * weights.

    Args:
        model: whose weights are averaged; the average starts from them.
        decay: such as 0.9998; about 1 / (1 - decay) steps count.
    """

    def __init__(self, model: FGCLIPModel, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"ema_decay must lie between 0 and 1, such as 0.9998; got {decay}.")
        self.model = model
        self.decay = decay
        self.average: AveragedModel | None = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        # Only now the weights are on their device, and those of the checkpoint that is resumed.
        if self.average is None:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(self.decay))
            # So that the first update averages too, instead of copying.
            self.average.n_averaged.fill_(1)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.average.update_parameters(self.model)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint of its own, `ema/` in `folder`; before training there is nothing to write."""
        if self.average is None:
            return
        averaged: FGCLIPModel = self.average.module
        averaged.save_pretrained(folder / FOLDER, state_dict=checkpoint_state(averaged.state_dict(), averaged))

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Goes on from the average that `save` wrote.

        Raises:
            ValueError: there is none.
        """
        file = folder / FOLDER / "model.safetensors"
        if not file.is_file():
            raise ValueError(
                f"{folder} holds no average of the weights ({FOLDER}/): it is of a run without --ema_decay. Resume "
                "without it, or start anew with --overwrite_output_dir."
            )
        self.average.module.load_state_dict(load_file(file))
