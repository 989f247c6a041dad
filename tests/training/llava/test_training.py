"""Both stages: what learns and what stands still, resuming, LoRA, several processes, mistakes."""

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTTrainer

from tests.training.llava.conftest import row
from tests.training.llava.runs import finetune
from tests.training.llava.test_build import inputs_of, outside, picture, question
from tests.training.runs import history
from training.cli import RECIPES, parse_dataclasses
from training.efficiency.lora import add_lora, merged_state
from training.llava.arguments import FinetuneArguments, PretrainArguments
from training.llava.checks import checking_length
from training.llava.collator import LlavaCollator
from training.llava.data import MESSAGES, finetune_example, load_examples
from training.llava.optimizer import parameter_groups
from training.llava.options import LORA_TARGETS, LlavaDataArguments, LlavaModelArguments
from training.llava.stages import choose_parameters, main

ROOT = Path(__file__).parents[3]
# As files name them; the model has "model." before.
TOWER, PROJECTOR = "vision_tower.", "multi_modal_projector."


def command(model: Path, data: Path, output: Path, *changes: str, stage: str = "finetune") -> list[str]:
    file = "instruct.json" if stage == "finetune" else "pretrain.json"
    return [
        *("--config", f"tiny_llava_{stage}", "--model_name_or_path", str(model), "--train_data", str(data / file)),
        *("--image_folder", str(data / "images"), "--output_dir", str(output), "--max_steps", "4"),
        *("--per_device_train_batch_size", "4", "--logging_steps", "1", "--disable_tqdm", "True", *changes),
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def moved(before: Path, after: Path) -> set[str]:
    old, new = weights(before), weights(after)
    assert old.keys() == new.keys()
    return {name for name in old if not old[name].equal(new[name])}


@pytest.fixture(scope="module")
def pretrained(llava, conversations, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("pretrained")
    main(PretrainArguments, command(llava, conversations, output, stage="pretrain"))
    return output


@pytest.fixture(scope="module")
def finetuned(pretrained, conversations, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("finetuned")
    main(
        FinetuneArguments, command(pretrained, conversations, output, "--save_strategy", "steps", "--save_steps", "2")
    )
    return output


def test_pretraining_moves_the_projector_alone(llava, pretrained):
    names = {name for name in weights(llava) if name.startswith(PROJECTOR)}
    assert moved(llava, pretrained) == names
    assert len(names) == 4


def test_finetuning_moves_all_but_the_tower(pretrained, finetuned):
    """Bit-equal after both stages; all else has moved, but for the rotary frequencies, which are no weights."""
    names = {name for name in weights(pretrained) if not name.startswith(TOWER)}
    assert moved(pretrained, finetuned) == names
    losses = [entry["loss"] for entry in history(finetuned)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]


def test_a_trained_folder_needs_none_of_our_code(finetuned, tmp_path):
    shutil.copytree(finetuned, tmp_path / "llava", ignore=shutil.ignore_patterns("checkpoint-*"))
    picture().save(tmp_path / "picture.png")
    model = AutoModelForImageTextToText.from_pretrained(finetuned)
    with torch.no_grad():
        expected = model(**inputs_of(AutoProcessor.from_pretrained(finetuned), question(picture()))).logits
    assert outside(tmp_path / "llava", tmp_path / "picture.png")["logits"].equal(expected)
    assert not list(finetuned.glob("*.py"))
    assert not list(finetuned.glob("README.md"))


def test_a_resumed_run_is_bit_equal(pretrained, conversations, finetuned, tmp_path):
    shutil.copytree(finetuned / "checkpoint-2", tmp_path / "checkpoint-2")
    main(
        FinetuneArguments,
        command(pretrained, conversations, tmp_path, "--save_strategy", "steps", "--save_steps", "2"),
    )
    assert not moved(finetuned, tmp_path)
    timed = ("tokens_per_second", "images_per_second")
    runs = [[{k: v for k, v in e.items() if k not in timed} for e in history(run)] for run in (finetuned, tmp_path)]
    assert runs[0] == runs[1]


def test_lora_is_saved_merged_and_resumes(pretrained, conversations, tmp_path):
    changes = ("--lora_rank", "4", "--lora_alpha", "8", "--lora_dropout", "0", "--projector_learning_rate", "1e-4")
    changes += ("--save_strategy", "steps", "--save_steps", "2")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    main(FinetuneArguments, command(pretrained, conversations, whole, *changes))
    names = moved(pretrained, whole)  # of a plain LLaVA: no name of an adapter
    matrices = {name for name in weights(pretrained) if ".layers." in name and name.endswith("_proj.weight")}
    matrices = {name for name in matrices if "language_model" in name}
    assert len(matrices) == 14
    assert names == matrices | {name for name in weights(pretrained) if name.startswith(PROJECTOR)}
    shutil.copytree(whole / "checkpoint-2", resumed / "checkpoint-2")
    main(FinetuneArguments, command(pretrained, conversations, resumed, *changes))
    assert not moved(whole, resumed)
    picture().save(tmp_path / "picture.png")
    assert outside(whole, tmp_path / "picture.png")["logits"].isfinite().all()


def test_merged_weights_give_what_the_adapted_model_gives(llava):
    model = AutoModelForImageTextToText.from_pretrained(llava)
    add_lora(model, 4, 8, targets=LORA_TARGETS)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    inputs = inputs_of(AutoProcessor.from_pretrained(llava), question(picture()))
    plain = AutoModelForImageTextToText.from_pretrained(llava)
    with torch.no_grad():
        before = plain(**inputs).logits
        plain.load_state_dict(merged_state(model))
        adapted, merged = model.eval()(**inputs).logits, plain(**inputs).logits
    assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
    assert (before - merged).abs().max() > 1e-2


def arguments_of(stage: type, tmp_path: Path, *changes: str):
    return parse_dataclasses(
        (stage,), ["--output_dir", str(tmp_path), "--use_cpu", "True", "--bf16", "False", *changes]
    )[0]


def test_the_projector_learns_at_its_own_rate(llava, tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(llava, dtype="bfloat16")
    changes = ("--lora_rank", "2", "--learning_rate", "2e-4", "--projector_learning_rate", "2e-5")
    choose_parameters(model, arguments_of(FinetuneArguments, tmp_path, *changes, "--weight_decay", "0.1"))
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 0.1, 2e-4, 2e-5)
    found = {(group["lr"], group["weight_decay"]): {names[p] for p in group["params"]} for group in groups}
    assert found[2e-5, 0.1] == {f"model.{PROJECTOR}linear_{n}.weight" for n in (1, 2)}
    assert found[2e-5, 0.0] == {f"model.{PROJECTOR}linear_{n}.bias" for n in (1, 2)}
    assert found[2e-4, 0.1] == {name for name in names.values() if "lora_" in name}
    assert len(found) == 3
    types = {p.requires_grad: set() for p in model.parameters()}
    for parameter in model.parameters():
        types[parameter.requires_grad].add(parameter.dtype)
    assert types == {True: {torch.float32}, False: {torch.bfloat16}}


def test_adapters_stay_in_the_language_model(llava, tmp_path):
    with pytest.raises(ValueError, match=r"lora_targets=all-linear, which would adapt the frozen encoder"):
        arguments_of(FinetuneArguments, tmp_path, "--lora_rank", "2", "--lora_targets", "all-linear")
    for targets in (".*q_proj", ".*linear_1", "lm_head"):
        given = arguments_of(FinetuneArguments, tmp_path, "--lora_rank", "2", "--lora_targets", targets)
        with pytest.raises(ValueError, match="name matrices of the language model alone"):
            choose_parameters(AutoModelForImageTextToText.from_pretrained(llava), given)
    given = arguments_of(FinetuneArguments, tmp_path, "--lora_rank", "2", "--lora_targets", "nothing")
    with pytest.raises(ValueError, match=r"lora_targets=nothing: "):
        choose_parameters(AutoModelForImageTextToText.from_pretrained(llava), given)
    # What the check is against: peft's shorthand takes the encoder along.
    model = AutoModelForImageTextToText.from_pretrained(llava)
    model._no_split_modules = None
    inject_adapter_in_model(LoraConfig(target_modules="all-linear"), model)
    assert any("vision_tower" in name and "lora_" in name for name, _ in model.named_parameters())


# Rows with images and without, and further options: mixed steps of two batches; steps of text alone, in which the
# projector has no gradient. trl has DDP look for such weights, with gradient checkpointing too.
KINDS_OF_STEPS = {
    "mixed": (18, 6, ("--gradient_accumulation_steps", "2", "--max_steps", "2")),
    "text alone": (4, 8, ("--gradient_checkpointing", "True", "--max_steps", "3")),
}


@pytest.mark.parametrize("kind", KINDS_OF_STEPS)
def test_two_processes_are_one(pretrained, conversations, tmp_path, kind):
    images, texts, changes = KINDS_OF_STEPS[kind]
    rows = [row(number, turns=1 + number % 3, image=number < images) for number in range(images + texts)]
    (tmp_path / "instruct.json").write_text(json.dumps(rows))
    (tmp_path / "images").symlink_to(conversations / "images")
    outputs = {}
    for processes in (1, 2):
        outputs[processes] = tmp_path / str(processes)
        size = ("--per_device_train_batch_size", str(4 // processes))
        assert (
            finetune(command(pretrained, tmp_path, outputs[processes], *changes, *size), processes) == [0] * processes
        )
    for one, two in zip(*map(history, outputs.values()), strict=True):
        for name in ("loss", "grad_norm", "mean_token_accuracy", "num_tokens"):
            assert one[name] == pytest.approx(two[name], rel=1e-4), name
    first, second = map(weights, outputs.values())
    for name, value in first.items():
        if name.startswith(TOWER):
            assert second[name].equal(value)
        else:  # Adam moves an entry by the sign of its gradient, so rounding turns those that have none
            assert (~torch.isclose(second[name], value, rtol=1e-3, atol=1e-4)).float().mean() < 0.01, name


def test_a_signal_ends_a_run_with_a_checkpoint_to_go_on_from(pretrained, conversations, tmp_path):
    """All runs are processes of their own: what other tests leave in this one, as the number of threads, moves last bits."""
    saving = ("--save_strategy", "steps", "--save_steps", "2")
    whole, stopped = (command(pretrained, conversations, tmp_path / name, *saving) for name in ("whole", "stopped"))
    assert finetune(whole) == [0]
    assert finetune(stopped, signal_at=3) == [143]
    assert (tmp_path / "stopped" / "checkpoint-3").is_dir()
    assert finetune(stopped) == [0]
    assert not moved(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.slow
def test_deepspeed_zero3_on_two_processes_equals_one(pretrained, conversations, tmp_path):
    pytest.importorskip("deepspeed")
    assert finetune(command(pretrained, conversations, tmp_path / "one")) == [0]
    arguments = command(pretrained, conversations, tmp_path / "two", "--per_device_train_batch_size", "2")
    program = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0"]
    program += ["--config_file", "training/configs/deepspeed_zero3_cpu.yaml", "training/llava/finetune.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*program, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for one, two in zip(history(tmp_path / "one"), history(tmp_path / "two"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
    names = {name.removeprefix("model.").split(".")[0] for name in weights(tmp_path / "two")}
    assert names == {"vision_tower", "multi_modal_projector", "language_model", "lm_head"}
    one, two = (AutoModelForImageTextToText.from_pretrained(tmp_path / name).state_dict() for name in ("one", "two"))
    for name, value in one.items():
        assert two[name].equal(value) if TOWER in name else torch.isclose(two[name], value, rtol=1e-3, atol=1e-4).all()


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*llava*.yaml")))
def test_recipes_are_of_their_stage(name):
    stage = PretrainArguments if "pretrain" in name else FinetuneArguments
    types = (LlavaModelArguments, LlavaDataArguments, stage)
    given = ["--config", name, "--model_name_or_path", "m", "--train_data", "d", "--image_folder", "i"]
    given += ["--use_cpu", "True", "--tf32", "False"]  # they are written for GPUs
    model, _, arguments = parse_dataclasses(types, given)
    published = {
        "llava_pretrain_7b": (32, 1e-3, None, None),
        "llava_finetune_7b": (16, 2e-5, None, None),
        "llava_finetune_lora_7b": (16, 2e-4, 128, 2e-5),
    }
    if name in published:
        found = (arguments.per_device_train_batch_size, arguments.learning_rate)
        assert (*found, arguments.lora_rank, arguments.projector_learning_rate) == published[name]
        assert (arguments.weight_decay, arguments.warmup_steps, arguments.max_length) == (0, 0.03, 2048)
        assert (arguments.bf16, arguments.lr_scheduler_type, model.dtype) == (True, "cosine", "bfloat16")


MISTAKES = {
    "max_length=20; the first answer comes after .* tokens, 16 of them the image's": ("--max_length", "20"),
    "fewer than a step": ("--per_device_train_batch_size", "64"),
    "packing": ("--packing", "True"),
    "fp16=True": ("--fp16", "True"),
    "unknown option": ("--lora_rnak", "4"),
    "is no folder": ("--image_folder", "none"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_told_before_the_first_step(llava, conversations, tmp_path, message):
    with pytest.raises(ValueError, match=message):
        main(FinetuneArguments, command(llava, conversations, tmp_path, *MISTAKES[message]))


@pytest.mark.parametrize("image", [True, False])
def test_a_row_without_room_for_its_answer_is_named(llava, conversations, tmp_path, image):
    """The very number of tokens: one more, and it can be trained on."""
    processor, long = AutoProcessor.from_pretrained(llava), row(4, image=image)
    long["conversations"][0]["value"] += " and what else" * 20
    collate = LlavaCollator(processor, conversations / "images", None, completions=False)
    needed = torch.nonzero(collate([finetune_example(long)])["labels"][0] != -100)[0].item()
    (tmp_path / "instruct.json").write_text(json.dumps([row(number) for number in range(4)] + [long]))
    (tmp_path / "images").symlink_to(conversations / "images")
    given = [tmp_path / "instruct.json"], tmp_path / "images"
    with pytest.raises(ValueError, match=rf"row 4 \(id 4\).*comes after {needed} tokens"):
        load_examples(*given, checking_length(finetune_example, processor, needed), MESSAGES)
    assert len(load_examples(*given, checking_length(finetune_example, processor, needed + 1), MESSAGES)[0]) == 5
    rows, report = load_examples(*given, checking_length(finetune_example, processor, needed), MESSAGES, "skip")
    assert len(rows) == 4
    assert "cannot be trained on" in str(report)


def test_what_is_no_llava_is_refused(llava, conversations, tmp_path):
    with pytest.raises(ValueError, match=r"holds a .*; `fgclip llava build` writes a LLaVA"):
        main(FinetuneArguments, command(llava.parent / "fgclip", conversations, tmp_path))


def test_one_run_at_a_time_writes_a_folder(llava, conversations, tmp_path):
    program = f"import sys; from pathlib import Path; from dataset_scripts.locking import writing\nwith writing(Path({str(tmp_path)!r})):\n    print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another command is writing"):
            main(FinetuneArguments, command(llava, conversations, tmp_path))
        other.stdin.close()


def test_what_is_taken_of_trl_beyond_its_public_interface_is_there():
    """Its sums, which resume, and its message home, which is not sent."""
    source = inspect.getsource(SFTTrainer) + inspect.getsource(SFTTrainer.__mro__[1])
    for name in ("self._metrics = {", "self._total_train_tokens = 0", "def _send_telemetry(self)"):
        assert name in source


def test_without_trl_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.delitem(sys.modules, "training.llava.arguments")
    with pytest.raises(ImportError, match=r"Training LLaVA needs trl: run pip install -e '.\[llava\]'"):
        importlib.import_module("training.llava.arguments")
