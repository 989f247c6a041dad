"""Equal to a step after the backward pass, with one gradient at a time; refused where gradients are needed together."""

import pytest
import torch

from tests.conftest import make_tiny_model
from tests.training.test_trainer import make_trainer
from training.arguments import Stage2Arguments


def train(processor, folder, resume: bool = False, **settings):
    trainer = make_trainer(Stage2Arguments, make_tiny_model(processor), processor, folder, max_grad_norm=0, **settings)
    held = []
    trainer.create_optimizer().register_step_pre_hook(
        lambda optimizer, *_: held.append(
            sum(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])
        )
    )
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-2") if resume else None)
    return trainer, held


@pytest.mark.parametrize(
    "checkpointing", [{}, {"gradient_checkpointing": True}, {"selective_activation_checkpointing": True}]
)
def test_equals_a_step_after_the_backward_pass(processor, tmp_path, checkpointing):
    settings = {"logging_steps": 1, "text_learning_rate": 5e-4, **checkpointing}
    after, together = train(processor, tmp_path, **settings)
    within, alone = train(processor, tmp_path, optimizer_in_backward=True, **settings)
    assert min(together) > 50
    # The last of each step is the Trainer's own, with nothing left to do.
    assert set(alone) == {0, 1}
    assert alone.count(0) == 4
    assert alone.count(1) == sum(together)
    for name, value in after.model.state_dict().items():
        assert torch.equal(within.model.state_dict()[name], value), name
    for first, second in zip(after.state.log_history[:4], within.state.log_history[:4], strict=True):
        assert second["loss"] == first["loss"]
        assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-5)


def test_resumes(processor, tmp_path):
    settings = {"optimizer_in_backward": True, "save_strategy": "steps", "save_steps": 2}
    whole, _ = train(processor, tmp_path, **settings)
    resumed, _ = train(processor, tmp_path, resume=True, **settings)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.parametrize("settings", [{}, {"max_grad_norm": 0, "gradient_accumulation_steps": 2}])
def test_what_needs_all_gradients_is_refused(settings, tmp_path):
    with pytest.raises(ValueError, match="neither clip them by their norm nor accumulate"):
        Stage2Arguments(output_dir=str(tmp_path), use_cpu=True, optimizer_in_backward=True, **settings)


def test_several_processes_are_refused(tiny_model, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(Stage2Arguments, "world_size", 2)
    with pytest.raises(ValueError, match="received 2"):
        make_trainer(Stage2Arguments, tiny_model, processor, tmp_path, optimizer_in_backward=True, max_grad_norm=0)
