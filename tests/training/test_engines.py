"""The same training through every engine that runs here: accelerate's launcher, compiled blocks, shards, averages, LoRA."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from accelerate.utils import DynamoBackend
from safetensors.torch import load_file
from torch.testing import assert_close

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from tests.training.checkpointing.test_resuming import command
from tests.training.records import make_record
from tests.training.runs import CONTEXT, history, run
from tests.training.sharding import shard
from tests.training.test_trainer import make_trainer
from training.arguments import Stage2Arguments
from training.data.collator import FGCLIPCollator
from training.efficiency.compiling import compile_encoders
from training.forward import embed
from training.hub.run_record import run_record
from training.objective import Objective, parse_losses
from training.optimizer import parameter_groups
from training.options import STAGE2_LOSSES
from training.temperatures import checkpoint_state, prepare_temperatures

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "training" / "configs").glob("*.yaml"))
OBJECTIVE = Objective(parse_losses(STAGE2_LOSSES))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_accelerates_and_begins_with_its_command(config):
    from accelerate.commands.config.config_args import load_config_from_file

    lines = config.read_text().splitlines()
    commands = [line for line in lines if line.startswith("#   ") and "accelerate launch" in line]
    assert len(commands) == 1
    assert f"--config_file training/configs/{config.name} " in commands[0]
    loaded = load_config_from_file(str(config))  # refuses keys that accelerate does not have
    assert ("--machine_rank" in commands[0]) == (loaded.num_machines > 1) == ("multi_node" in config.stem)
    settings = yaml.safe_load(config.read_text())
    assert settings["mixed_precision"] == ("no" if settings.get("use_cpu") else "bf16")


def launch(config: str, arguments: list[str], **environment: str) -> None:
    """As its documented command does, in a process that must end well."""
    program = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    program += ["--config_file", f"training/configs/{config}", "--main_process_port", "0", "training/stage2.py"]
    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([*program, *arguments], cwd=ROOT, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def settings_for(shards: Path, batch: int) -> list[str]:
    return ["--train_data", str(shards), "--per_device_train_batch_size", str(batch), "--max_steps", "4"]


def assert_same_run(first: Path, second: Path) -> None:
    """Losses and weights agree."""
    for one, other in zip(history(first), history(second), strict=True):
        for name in ("loss", "loss_global", "loss_regional", "loss_hard"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name
    assert_same_weights(load_file(first / "model.safetensors"), load_file(second / "model.safetensors"))


def assert_same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Adam moves an entry by the sign of its gradient, so rounding turns those that have none: few may differ."""
    assert first.keys() == second.keys()
    for name, value in second.items():
        if not name.endswith("k_proj.bias"):  # softmax does not see it: its gradient is rounding alone
            assert (~torch.isclose(value, first[name], rtol=1e-3, atol=1e-4)).float().mean() < 0.01, name


@pytest.fixture(scope="module")
def one_process(start, shards, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("one")
    run([*command(start, output), *settings_for(shards, 8)])
    return output


def test_ddp_through_accelerate_launch_equals_one_process(one_process, start, shards, tmp_path):
    launch("ddp_cpu.yaml", [*command(start, tmp_path), *settings_for(shards, 4)])
    assert_same_run(one_process, tmp_path)


@pytest.mark.parametrize("losses", [["distillation"], ["long_clip", "regional=1", "self_distillation"]])
def test_the_peers_losses_on_two_processes_equal_one(losses, start, shards, tmp_path):
    for processes in (1, 2):
        arguments = [*command(start, tmp_path / str(processes)), *settings_for(shards, 8 // processes)]
        run([*arguments, "--losses", *losses], processes)
    for one, other in zip(history(tmp_path / "1"), history(tmp_path / "2"), strict=True):
        for name in ("loss", *(f"loss_{loss.partition('=')[0]}" for loss in losses)):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name
    assert_same_weights(*(load_file(tmp_path / number / "model.safetensors") for number in ("1", "2")))


@pytest.mark.slow
def test_deepspeed_zero2_on_two_processes_equals_one_and_resumes(one_process, start, shards, tmp_path):
    pytest.importorskip("deepspeed")
    arguments = [*command(start, tmp_path), *settings_for(shards, 4), "--save_steps", "2"]
    launch("deepspeed_zero2_cpu.yaml", arguments, DS_ACCELERATOR="cpu")
    assert_same_run(one_process, tmp_path)
    whole = history(tmp_path)
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text("{")
    launch("deepspeed_zero2_cpu.yaml", arguments, DS_ACCELERATOR="cpu")
    assert (tmp_path / "damaged-checkpoint-4").is_dir()
    assert history(tmp_path) == whole


def one_step(model: FGCLIPModel, processor: FGCLIPProcessor, numbers: range) -> float:
    records = [make_record(number, regions=2, negatives=3) for number in numbers]
    for record in records:
        for region in record["regions"]:
            region["long_expr"] = None
    batch = FGCLIPCollator(processor)(records)
    loss = OBJECTIVE.total(OBJECTIVE.losses(embed(model, batch), batch))
    loss.backward()
    return loss.item()


def _sharded(rank: int, checkpoint: str, folder: str) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = FGCLIPModel.from_pretrained(checkpoint)
    prepare_temperatures(model)
    mesh = dist.init_device_mesh("cpu", (2,))
    shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1, 1e-3))
    loss = one_step(model, FGCLIPProcessor.from_pretrained(checkpoint), range(4 * rank, 4 * rank + 4))
    optimizer.step()
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    torch.save({"loss": loss, "state": checkpoint_state(state, model) if rank == 0 else {}}, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_fsdp2_on_two_processes_equals_one(start, tmp_path):
    """fully_shard of our model with temperatures of shape (1,), which it cannot do with 0-dimensional ones."""
    ranks = [CONTEXT.Process(target=_sharded, args=(rank, str(start), str(tmp_path))) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(600)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    model = FGCLIPModel.from_pretrained(start)
    prepare_temperatures(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1, 1e-3))
    loss = one_step(model, FGCLIPProcessor.from_pretrained(start), range(8))
    optimizer.step()
    assert sum(result["loss"] for result in results) / 2 == pytest.approx(loss, rel=1e-5)
    assert_same_weights(checkpoint_state(model.state_dict(), model), results[0]["state"])


def test_compiled_blocks_give_the_same_gradients_for_packs_of_any_length(tiny_model, processor):
    """One graph for every batch: another number of texts and tokens must not compile anew."""
    from torch._dynamo.testing import CompileCounter

    plain = FGCLIPModel(tiny_model.config)
    plain.load_state_dict(tiny_model.state_dict())
    counter = CompileCounter()
    compile_encoders(tiny_model, backend=counter)
    graphs = []
    for numbers in (range(2), range(5), range(3, 6), range(7)):
        for model in (plain, tiny_model):
            model.zero_grad()
        losses = [one_step(model, processor, numbers) for model in (plain, tiny_model)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        for (name, one), other in zip(plain.named_parameters(), tiny_model.parameters(), strict=True):
            assert_close(other.grad, one.grad, msg=lambda text, name=name: f"{name}: {text}")
        graphs.append(counter.frame_count)
    assert graphs[0] > 0
    assert graphs[2] == graphs[3]
    assert plain.state_dict().keys() == tiny_model.state_dict().keys()


@pytest.mark.parametrize("options", [{"torch_compile": True}, {"torch_compile_backend": "eager"}])
def test_nothing_but_the_blocks_is_compiled(tiny_model, processor, tmp_path, options):
    """Accelerate, too, would compile the whole model, for which TrainingArguments sets environment variables."""
    trainer = make_trainer(Stage2Arguments, tiny_model, processor, tmp_path, max_steps=1, **options)
    assert trainer.args.compile_settings == {"backend": options.get("torch_compile_backend", "inductor"), "mode": None}
    assert trainer.accelerator.state.dynamo_plugin.backend == DynamoBackend.NO
    assert tiny_model.vision_model.encoder.layers[0]._compiled_call_impl is not None
    assert tiny_model._compiled_call_impl is None
    prepared = trainer.accelerator.prepare_model(tiny_model)
    assert prepared is tiny_model
    assert run_record(trainer)["settings"]["torch_compile_backend"] == trainer.args.compile_settings["backend"]


@pytest.mark.slow
def test_a_compiled_run_equals_a_plain_one(one_process, start, shards, tmp_path):
    run([*command(start, tmp_path), *settings_for(shards, 8), "--torch_compile"])
    assert_same_run(one_process, tmp_path)


def test_average_of_the_weights_is_the_recurrence_and_resumes(tiny_model, processor, tmp_path):
    from transformers import TrainerCallback

    from tests.conftest import make_tiny_model

    expected: dict[str, torch.Tensor] = {}

    class Recurrence(TrainerCallback):
        def on_train_begin(self, args, state, control, model, **kwargs):
            expected.update({name: value.double().clone() for name, value in model.state_dict().items()})

        def on_step_end(self, args, state, control, model, **kwargs):
            for name, value in model.state_dict().items():
                expected[name] = 0.9 * expected[name] + 0.1 * value.double()

    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "ema_decay": 0.9}
    trainer = make_trainer(Stage2Arguments, tiny_model, processor, tmp_path, **settings)
    trainer.add_callback(Recurrence())
    trainer.train()
    averaged = FGCLIPModel.from_pretrained(tmp_path / "checkpoint-6" / "ema").state_dict()
    for name, value in averaged.items():
        if value.is_floating_point():
            assert_close(value, expected[name].float().reshape(value.shape), rtol=1e-5, atol=1e-6)
    resumed = make_trainer(Stage2Arguments, make_tiny_model(processor), processor, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for name, value in FGCLIPModel.from_pretrained(tmp_path / "checkpoint-6" / "ema").state_dict().items():
        assert value.equal(averaged[name]), name


def test_lora_trains_little_saves_merged_and_resumes(processor, tmp_path):
    pytest.importorskip("peft")
    from tests.conftest import make_tiny_model
    from training.efficiency.lora import add_lora

    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "logging_steps": 1}

    def trainer():
        model = make_tiny_model(processor)
        add_lora(model, rank=4, alpha=8)
        return make_trainer(Stage2Arguments, model, processor, tmp_path, **settings)

    whole = trainer()
    learning = [name for name, p in whole.model.named_parameters() if p.requires_grad]
    assert all("lora_" in name or name.startswith("logit_scale") for name in learning)
    whole.train()
    whole.save_model()
    merged = FGCLIPModel.from_pretrained(tmp_path)
    inputs = processor(text=["a dog", "a red star"])
    before = make_tiny_model(processor).get_text_features(**inputs)
    after = whole.model.eval().get_text_features(**inputs)
    assert_close(merged.get_text_features(**inputs), after, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-3)
    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (whole, resumed)]
    assert losses[0] == losses[1]
