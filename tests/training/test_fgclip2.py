"""Training FG-CLIP 2 by the same trainer: parts, moved parameters, margin, gradient caching, LoRA, two processes, kill -9."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from modeling_fgclip import FGCLIP2Model, FGCLIP2Processor
from tests.conftest import make_fgclip2_processor, make_tiny_fgclip2
from tests.training.records import make_record
from tests.training.runs import history, run
from tests.training.test_trainer import make_trainer
from training.arguments import Stage1Arguments, Stage2Arguments
from training.data.collator import FGCLIPCollator
from training.efficiency.gradient_cache import cache_gradients
from training.forward import MODEL_INPUTS, embed
from training.objective import Objective, parse_losses
from training.planning.flops_fgclip2 import batch_flops

LOSSES = ["sigmoid", "regional=0.2", "textual", "hard_contrastive", "hard=1.5", "rank"]


def objective() -> Objective:
    return Objective(parse_losses(LOSSES))


def test_stage_2_moves_every_parameter_and_logs_every_part(tiny_fgclip2, fgclip2_processor, tmp_path):
    before = {name: value.clone() for name, value in tiny_fgclip2.state_dict().items()}
    trainer = make_trainer(Stage2Arguments, tiny_fgclip2, fgclip2_processor, tmp_path, losses=LOSSES)
    trainer.train()
    state = trainer.model.state_dict()
    still = [name for name, value in state.items() if torch.equal(value.reshape_as(before[name]), before[name])]
    assert still == ["dense_feature_head.probe"]
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(
        log["loss_sigmoid"]
        + 0.2 * log["loss_regional"]
        + 0.1 * log["loss_textual"]
        + 0.5 * (0.6 * log["loss_hard_contrastive"] + 3 * log["loss_hard"] + 0.4 * log["loss_rank"]),
        rel=1e-4,
    )
    trainer.save_model()
    saved = load_file(tmp_path / "model.safetensors")
    shapes = {name: tuple(saved[name].shape) for name in ("logit_scale", "logit_bias", "logit_scale_hardneg")}
    assert shapes == {"logit_scale": (1,), "logit_bias": (1,), "logit_scale_hardneg": ()}
    assert isinstance(FGCLIP2Processor.from_pretrained(tmp_path), FGCLIP2Processor)


def test_stage_1_leaves_the_heads_of_regions(tiny_fgclip2, fgclip2_processor, tmp_path):
    trainer = make_trainer(
        Stage1Arguments, tiny_fgclip2, fgclip2_processor, tmp_path, losses=["sigmoid"], init_temperature=None
    )
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    # Published temperatures, 4.6052, are clamped to ln 100.
    still = {
        name for name, value in trainer.model.state_dict().items() if torch.allclose(value, before[name], 1e-5, 0)
    }
    own = ("dense_feature_head.", "boxtext_head.", "logit_scale_finegraind", "logit_scale_hardneg")
    assert still == {name for name in before if name.startswith(own)}


def test_the_margin_follows_the_step_before(tiny_fgclip2, fgclip2_processor, tmp_path):
    trainer = make_trainer(Stage2Arguments, tiny_fgclip2, fgclip2_processor, tmp_path, losses=LOSSES, max_steps=1)
    rank = next(term.loss for term in trainer.objective.terms if term.name == "rank")
    seen = []
    original = trainer.objective.losses

    def losses(output, batch):
        text = output.text_embeds[batch["hard_index"]].detach()
        region = output.region_embeds.flatten(0, 1)[batch["hard_region_index"]].detach()
        logits = output.scales[2].detach() * torch.einsum("rd,rmd->rm", region, text)
        seen.append(logits[:, 0].mean() - logits[:, 1:].mean())
        return original(output, batch)

    trainer.objective.losses = losses
    assert rank.margin == 0
    trainer.train()
    assert_close(rank.margin, seen[0].clamp(0, 10), rtol=1e-4, atol=1e-5)
    other = objective()
    other.load_state_dict(trainer.objective.state_dict())
    assert torch.equal(next(term.loss for term in other.terms if term.name == "rank").margin, rank.margin)


def test_a_model_without_a_bias_is_refused(tiny_model, processor, tmp_path):
    with pytest.raises(ValueError, match="sigmoid for an FG-CLIP"):
        make_trainer(Stage2Arguments, tiny_model, processor, tmp_path, losses=LOSSES)


def test_crops_are_refused(fgclip2_processor):
    with pytest.raises(ValueError, match="grids of their own"):
        FGCLIPCollator(fgclip2_processor, crops=True)


def test_fp16_is_refused(tmp_path):
    with pytest.raises(ValueError, match="fp16"):
        Stage2Arguments(output_dir=str(tmp_path), losses=LOSSES, fp16=True)


def records(first: int, counts: list[tuple[int, int]]) -> list[dict]:
    """With one expression a region, so that no choice is made."""
    made = [make_record(first + index, *count) for index, count in enumerate(counts)]
    for record in made:
        for region in record["regions"]:
            region["long_expr"] = None
    return made


def without_captions(made: list[dict], name: str) -> list[dict]:
    for record in made:
        record[name] = None if name == "caption" else []
    return made


@pytest.mark.parametrize("missing", ["caption", "short_captions", None])
@pytest.mark.parametrize("counts", [[(0, 0)] * 4, [(1, 3), (0, 0), (0, 0), (0, 0)], [(4, 10), (3, 2), (2, 0), (1, 1)]])
def test_every_batch_has_a_finite_loss_and_gradient(tiny_fgclip2, fgclip2_processor, missing, counts):
    """0, 1 and 10 regions, 0 and 1 hard ones, no long or no short captions."""
    made = records(0, counts)
    batch = FGCLIPCollator(fgclip2_processor)(without_captions(made, missing) if missing else made)
    goal = objective()
    loss = goal.total(goal.losses(embed(tiny_fgclip2, batch), batch))
    loss.backward()
    assert loss.isfinite()
    for name, parameter in tiny_fgclip2.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_lora_trains_and_saves_a_plain_checkpoint(tiny_fgclip2, fgclip2_processor, tmp_path):
    pytest.importorskip("peft", reason="needs the extra lora")
    from training.efficiency.lora import add_lora

    before = {name: value.clone() for name, value in tiny_fgclip2.state_dict().items()}
    add_lora(tiny_fgclip2, rank=2, alpha=4)
    trainer = make_trainer(Stage2Arguments, tiny_fgclip2, fgclip2_processor, tmp_path, losses=LOSSES)
    trainer.train()
    trainer.save_model()
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == before.keys()
    moved = {name for name, value in saved.items() if not torch.equal(value, before[name].reshape_as(value))}
    assert {"boxtext_head.weight", "longtext_head.weight", "text_model.head.weight"} <= moved
    assert "text_model.embeddings.token_embedding.weight" not in moved


@pytest.mark.parametrize("regions", [4, 0])
def test_flops_are_those_of_the_matrix_products(tiny_fgclip2, fgclip2_processor, regions):
    made = records(0, [(2, 3), (1, 0), (3, 2)])
    for record in made:
        record["image"] = record["image"].resize((64, 64))  # one grid: no patch is padding
    batch = FGCLIPCollator(fgclip2_processor, max_regions=regions)(made)
    assert batch["pixel_attention_mask"].all()
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    # The counter sees the products of plain attention, but not those of the CPU's fused kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        tiny_fgclip2(**inputs)
    assert 3 * counter.get_total_flops() == batch_flops(tiny_fgclip2.config, batch)


CASES = {
    "uneven": [[(3, 4), (1, 0), (0, 0), (4, 10)], [(1, 2), (0, 0), (2, 0), (0, 0)]],
    "one without": [[(2, 3), (4, 10), (1, 1), (2, 0)], [(0, 0)] * 4],
    "none": [[(0, 0)] * 4, [(0, 0)] * 4],
}


def share(case: str, rank: int) -> list[dict]:
    return records(4 * rank, CASES[case][rank])


def step(model: torch.nn.Module, processor: FGCLIP2Processor, made: list[dict]) -> dict:
    batch, goal = FGCLIPCollator(processor)(made), objective()
    loss = goal.total(goal.losses(embed(model, batch), batch))
    loss.backward()
    return outcome(model, loss, goal)


def cached_step(model: torch.nn.Module, processor: FGCLIP2Processor, made: list[dict]) -> dict:
    goal = objective()
    batches = [FGCLIPCollator(processor)(made[start : start + 2]) for start in range(0, len(made), 2)]
    losses, cached = cache_gradients(lambda batch: embed(model, batch), batches, goal, torch.device("cpu"))
    for index, (batch, cache) in enumerate(zip(batches, cached, strict=True)):
        last = index == len(batches) - 1
        with nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync():
            cache.loss(embed(model, batch)).backward()
    return outcome(model, goal.total(losses), goal)


def outcome(model: torch.nn.Module, loss: torch.Tensor, goal: Objective) -> dict:
    goal.end_step()
    module = getattr(model, "module", model)
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}
    return {"loss": loss.item(), "gradients": gradients, "margin": goal.state_dict()["rank"]["margin"]}


def ready(model: FGCLIP2Model) -> FGCLIP2Model:
    """Without the tensor that no loss reaches, as the trainer has it."""
    model.dense_feature_head.probe.requires_grad_(False)
    return model


def worker(rank: int, checkpoint: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    processor = FGCLIP2Processor.from_pretrained(checkpoint)
    for case in CASES:
        for kind, function in (("plain", step), ("cached", cached_step)):
            model = DistributedDataParallel(ready(FGCLIP2Model.from_pretrained(checkpoint)))
            torch.save(function(model, processor, share(case, rank)), f"{folder}/{case}-{kind}-{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_one_plain_and_with_gradient_caching(tiny_fgclip2, fgclip2_processor, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    tiny_fgclip2.save_pretrained(checkpoint)
    fgclip2_processor.save_pretrained(checkpoint)
    mp.spawn(worker, (str(checkpoint), str(tmp_path)), nprocs=2)
    for case in CASES:
        model = ready(FGCLIP2Model.from_pretrained(checkpoint))
        expected = step(model, fgclip2_processor, share(case, 0) + share(case, 1))
        for kind in ("plain", "cached"):
            ranks = [torch.load(tmp_path / f"{case}-{kind}-{rank}.pt") for rank in (0, 1)]
            assert sum(found["loss"] for found in ranks) / 2 == pytest.approx(expected["loss"], rel=1e-5)
            for found in ranks:
                assert found["margin"] == pytest.approx(expected["margin"], rel=1e-4, abs=1e-6)
                for name, gradient in expected["gradients"].items():
                    if gradient is not None:
                        scale = gradient.abs().max().item()
                        assert_close(
                            found["gradients"][name],
                            gradient,
                            rtol=1e-4,
                            atol=1e-4 * scale + 1e-6,
                            msg=lambda text, name=name, case=case: f"{case}, {name}: {text}",
                        )


def margin_of(checkpoint: Path) -> float:
    (file,) = checkpoint.glob("progress*")
    return torch.load(file, weights_only=True)["objective"]["rank"]["margin"]


def test_kill_and_resume_goes_on_with_loss_and_margin_bit_equal(sample, tmp_path):
    start = tmp_path / "start"
    processor = make_fgclip2_processor()
    make_tiny_fgclip2(processor).save_pretrained(start)
    processor.save_pretrained(start)
    common = ["--model_name_or_path", str(start), "--train_data", str(sample / "train"), "--losses", *LOSSES]
    common += [
        "--per_device_train_batch_size",
        "4",
        "--max_steps",
        "6",
        "--save_steps",
        "2",
        "--logging_steps",
        "1",
        "--warmup_steps",
        "1",
    ]
    common += [
        "--learning_rate",
        "1e-3",
        "--report_to",
        "none",
        "--use_cpu",
        "true",
        "--disable_tqdm",
        "true",
        "--bf16",
        "false",
    ]
    run([*common, "--output_dir", str(tmp_path / "whole")])
    run([*common, "--output_dir", str(tmp_path / "broken")], kill_at=3)
    assert (tmp_path / "broken" / "checkpoint-2").is_dir()
    run([*common, "--output_dir", str(tmp_path / "broken")])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert history(broken) == history(whole)
    assert margin_of(broken / "checkpoint-6") == margin_of(whole / "checkpoint-6") > 0
    for name, tensor in load_file(whole / "model.safetensors").items():
        assert torch.equal(load_file(broken / "model.safetensors")[name], tensor), name
