from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers import AutoModel

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from tests.training.records import make_record
from training.arguments import Stage1Arguments, Stage2Arguments
from training.trainer import FGCLIPTrainer


class Records(Dataset):
    """Sixteen records; of the first eight, each with two regions and three negatives."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict:
        return make_record(index, regions=2, negatives=3) if index < 8 else make_record(index)


def make_trainer(stage, model, processor, folder: Path, **settings) -> FGCLIPTrainer:
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "warmup_steps": 0,
        "learning_rate": 1e-3,
        "logging_steps": 2,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }
    arguments = stage(**{**defaults, **settings})
    return FGCLIPTrainer(model, arguments, Records(), processor)


def test_stage_2_moves_every_parameter_and_logs_every_part(tiny_model, processor, tmp_path):
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    trainer = make_trainer(Stage2Arguments, tiny_model, processor, tmp_path)
    trainer.train()
    still = [
        name
        for name, value in trainer.model.state_dict().items()
        if torch.equal(value.reshape_as(before[name]), before[name])
    ]
    assert still == []
    log = trainer.state.log_history[0]
    parts = log["loss_global"] + 0.1 * log["loss_regional"] + 0.5 * log["loss_hard"]
    assert log["loss"] == pytest.approx(parts, rel=1e-4)
    assert log["temperature_hard"] == pytest.approx(0.07, rel=0.05)
    for name in ("grad_norm", "learning_rate", "images_per_second", "text_tokens_per_second", "regions_per_second"):
        assert log[name] > 0


def test_stage_1_leaves_unused_temperatures_alone(tiny_model, processor, tmp_path):
    trainer = make_trainer(Stage1Arguments, tiny_model, processor, tmp_path)
    trainer.train()
    state = trainer.model.state_dict()
    start = torch.tensor([trainer.model.config.logit_scale_init_value])
    assert torch.equal(state["logit_scale_finegraind"], start)
    assert torch.equal(state["logit_scale_hardneg"], start)
    assert not torch.equal(state["logit_scale"], start)
    assert "loss_regional" not in trainer.state.log_history[0]


def test_bfloat16_autocast_keeps_float32_weights(tiny_model, processor, tmp_path):
    trainer = make_trainer(Stage2Arguments, tiny_model, processor, tmp_path, bf16=True)
    trainer.train()
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert torch.isfinite(torch.tensor(trainer.state.log_history[0]["loss"]))


def test_checkpoint_loads_with_auto_model_and_holds_published_shapes(tiny_model, processor, tmp_path):
    trainer = make_trainer(Stage2Arguments, tiny_model, processor, tmp_path)
    trainer.train()
    trainer.save_model()
    assert load_file(tmp_path / "model.safetensors")["logit_scale"].shape == ()
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, FGCLIPModel)
    inputs = processor(text=["a dog", "a cat"])
    trained = trainer.model.eval()
    assert torch.equal(loaded.get_text_features(**inputs), trained.get_text_features(**inputs))


def test_resumed_run_ends_where_the_uninterrupted_one_does(processor, tmp_path):
    from tests.conftest import make_tiny_model

    settings = {"max_steps": 6, "logging_steps": 1, "save_strategy": "steps", "save_steps": 3}
    whole = make_trainer(Stage2Arguments, make_tiny_model(processor), processor, tmp_path, **settings)
    whole.train()
    resumed = make_trainer(Stage2Arguments, make_tiny_model(processor), processor, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (whole, resumed)]
    assert losses[0] == losses[1]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_temperatures_are_clamped(tiny_model, processor, tmp_path):
    with torch.no_grad():
        tiny_model.logit_scale.fill_(8.0)
    trainer = make_trainer(Stage1Arguments, tiny_model, processor, tmp_path, max_steps=1)
    trainer.train()
    assert trainer.model.logit_scale.exp().item() == pytest.approx(100, rel=1e-5)


def test_matrices_decay_and_nothing_else(tiny_model, processor, tmp_path):
    trainer = make_trainer(Stage2Arguments, tiny_model, processor, tmp_path, text_learning_rate=1e-5, weight_decay=0.1)
    groups = trainer.create_optimizer().param_groups
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            is_matrix = name.endswith("weight") and "norm" not in name
            assert (group["weight_decay"] == 0.1) == is_matrix, name
            assert (group["lr"] == 1e-5) == name.startswith("text_"), name
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model, processor, tmp_path):
    with torch.no_grad():
        tiny_model.visual_projection.weight.fill_(float("nan"))
    trainer = make_trainer(Stage1Arguments, tiny_model, processor, tmp_path)
    with pytest.raises(FloatingPointError, match=r"step 0.*global.*record-"):
        trainer.train()


def test_too_few_records_are_refused(tiny_model, processor, tmp_path):
    trainer = make_trainer(Stage1Arguments, tiny_model, processor, tmp_path, per_device_train_batch_size=17)
    with pytest.raises(ValueError, match="16 records"):
        trainer.train()


def test_gradient_caching_trains_as_one_large_batch(processor, tmp_path):
    from tests.conftest import make_tiny_model

    # Plain SGD: Adam would turn the noise of gradients that are zero into steps.
    settings = {"max_steps": 2, "logging_steps": 1, "optim": "sgd"}
    large = make_trainer(
        Stage2Arguments, make_tiny_model(processor), processor, tmp_path, per_device_train_batch_size=8, **settings
    )
    large.train()
    small = make_trainer(
        Stage2Arguments,
        make_tiny_model(processor),
        processor,
        tmp_path,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        gradient_caching=True,
        **settings,
    )
    small.train()
    for first, second in zip(large.state.log_history[:2], small.state.log_history[:2], strict=True):
        for name in ("loss", "loss_global", "loss_regional", "loss_hard", "grad_norm"):
            assert second[name] == pytest.approx(first[name], rel=1e-4), name
    for name, value in large.model.state_dict().items():
        torch.testing.assert_close(small.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_one_process_alone_writes(tiny_model, processor, tmp_path, monkeypatch):
    """The others of a run have no folder to write into yet when they come to save."""
    trainer = make_trainer(Stage1Arguments, tiny_model, processor, tmp_path)
    trainer.save_model(str(tmp_path / "first"))
    assert (tmp_path / "first" / "training_run.json").is_file()
    monkeypatch.setattr(Stage1Arguments, "should_save", False)
    trainer.save_model(str(tmp_path / "second"))
    assert not (tmp_path / "second").exists()


def test_a_run_from_python_is_recorded_as_one_from_the_command_line(start, shards, tmp_path):
    from training.cli import parse_arguments
    from training.data.augmentation import Augmentation
    from training.data.collator import FGCLIPCollator
    from training.data.sources import load_records
    from training.hub.model_card import render_card
    from training.hub.run_record import Provenance, read_run_record
    from training.stages import train

    options = {
        "model_name_or_path": start,
        "train_data": shards,
        "flip": 0.5,
        **{"max_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-3},
        **{"bf16": False, "use_cpu": True, "report_to": "none", "disable_tqdm": True},
    }
    first, second = tmp_path / "a" / "run", tmp_path / "b" / "run"
    command = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    train(*parse_arguments(Stage2Arguments, [*command, "--output_dir", str(first)]))

    settings = {name: options[name] for name in list(options)[3:]}
    processor = FGCLIPProcessor.from_pretrained(start)
    trainer = FGCLIPTrainer(
        FGCLIPModel.from_pretrained(start),
        Stage2Arguments(output_dir=str(second), **settings),
        load_records([shards]),
        processor,
        FGCLIPCollator(processor, augmentation=Augmentation(flip=0.5), seed=42),
        provenance=Provenance([shards]),
    )
    trainer.train()
    trainer.save_model()
    assert read_run_record(first) == read_run_record(second)
    assert read_run_record(second)["base_model"] == "/".join(start.parts[-2:])
    assert str(render_card(first, "user/name")) == str(render_card(second, "user/name"))
    assert str(shards.name) in str(render_card(second, "user/name"))


def test_no_pickle_is_beside_a_model(tiny_model, processor, tmp_path):
    make_trainer(Stage1Arguments, tiny_model, processor, tmp_path).save_model()
    names = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {".json", ".py", ".safetensors"}


def test_the_best_model_is_loaded_with_its_adapters_and_average(processor, tmp_path):
    pytest.importorskip("peft")
    from tests.conftest import make_tiny_model
    from training.efficiency.lora import add_lora

    model = make_tiny_model(processor)
    add_lora(model, rank=4, alpha=8)
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(Stage2Arguments, model, processor, tmp_path, ema_decay=0.5, **settings)
    trainer.train()
    trainer.state.best_model_checkpoint = str(tmp_path / "checkpoint-1")
    trainer._load_best_model()
    trainer.save_model(str(tmp_path / "best"))
    for name in ("model.safetensors", "ema/model.safetensors"):
        best, last = (load_file(tmp_path / folder / name) for folder in ("checkpoint-1", "checkpoint-2"))
        for key, value in load_file(tmp_path / "best" / name).items():
            assert torch.equal(value, best[key]), key
        assert not all(torch.equal(last[key], value) for key, value in best.items())


def test_a_model_without_its_training_state_is_not_resumed(processor, tmp_path):
    from tests.conftest import make_tiny_model

    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2, "save_only_model": True}
    make_trainer(Stage2Arguments, make_tiny_model(processor), processor, tmp_path, **settings).train()
    again = make_trainer(Stage2Arguments, make_tiny_model(processor), processor, tmp_path, **settings)
    with pytest.raises(ValueError, match="no state of its training"):
        again.train(resume_from_checkpoint=True)
