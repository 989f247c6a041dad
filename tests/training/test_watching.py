"""What a run logs, and evaluation while it trains."""

import json

import pytest
import torch

from modeling_fgclip import FGCLIPModel
from tests.training.checkpointing.test_resuming import command
from tests.training.runs import run
from tests.training.test_trainer import make_trainer
from training.arguments import Stage2Arguments
from training.planning.flops import batch_flops
from training.run_log import RunLog
from training.watching import eval_tasks


def test_rates_and_shares_are_those_of_the_window(monkeypatch):
    clock = iter([0.0, 2.0, 5.0, 10.0, 10.0])
    monkeypatch.setattr("training.run_log.time.perf_counter", lambda: next(clock))
    log = RunLog(peak_flops=1e12)
    for regions in (3, 5):
        log.add({"global": torch.tensor(float(regions))}, {"images": 4, "regions": regions, "flops": 10**12})
    log.add_wait(1.4)
    with log.paused():  # from second 2 to second 5
        pass
    report = log.drain()  # at second 10, so that the window is 7 seconds
    assert report["loss_global"] == 4
    assert report["images_per_second"] == pytest.approx(8 / 7)
    assert (report["regions_per_batch"], report["regions_per_second"]) == (4, pytest.approx(8 / 7))
    assert report["data_wait_share"] == pytest.approx(0.2)
    assert report["tflops_per_second"] == report["mfu"] == pytest.approx(2 / 7)


def test_a_window_survives_a_restart():
    log, other = RunLog(), RunLog()
    log.add({"global": torch.tensor(2.0)}, {"images": 4})
    other.load_state_dict(log.state_dict())
    other.add({"global": torch.tensor(4.0)}, {"images": 2})
    report = other.drain()
    assert report["loss_global"] == 3.0
    assert report["images_per_second"] > 0


def test_counts_are_those_of_the_batches(tiny_model, processor, tmp_path):
    trainer = make_trainer(Stage2Arguments, tiny_model, processor, tmp_path, peak_tflops=0.01)
    trainer.train()
    batches = list(trainer.get_train_dataloader())  # the first epoch, whose four batches two log lines cover
    entries = trainer.state.log_history[:2]
    regions = sum((batch["region_index"] >= 0).sum().item() for batch in batches)
    negatives = sum((batch["hard_index"][:, 1:] >= 0).sum().item() for batch in batches)
    assert sum(entry["regions_per_batch"] for entry in entries) * 2 == regions == 16
    assert sum(entry["hard_negatives_per_batch"] for entry in entries) * 2 == negatives == 48
    for entry in entries:
        assert 0 < entry["data_wait_share"] < 1
        assert entry["mfu"] == pytest.approx(entry["tflops_per_second"] / 0.01)
    # FLOPs an image are a ratio of rates, whatever the clock says; each line covers eight images.
    logged = sum(entry["tflops_per_second"] * 1e12 / entry["images_per_second"] * 8 for entry in entries)
    assert logged == pytest.approx(sum(batch_flops(tiny_model.config, batch) for batch in batches), rel=1e-6)


def test_tasks_are_evaluated_and_the_best_checkpoint_is_kept(start, shards, sample, tmp_path):
    output = tmp_path / "run"
    settings = [
        *("--train_data", str(shards), "--per_device_train_batch_size", "8", "--max_steps", "4"),
        *("--eval_tasks", "retrieval,phrases", "--eval_data", str(sample), "--eval_strategy", "steps"),
        *("--eval_task_options", "retrieval.root=test", "phrases.root=test", "--eval_steps", "2", "--save_steps", "2"),
        *("--metric_for_best_model", "phrases_top1", "--load_best_model_at_end", "--report_to", "tensorboard"),
    ]
    run([*command(start, output), *settings])
    state = json.loads((output / "trainer_state.json").read_text())
    scores = {entry["step"]: entry for entry in state["log_history"] if "eval_runtime" in entry}
    assert sorted(scores) == [2, 4]
    best = max(scores, key=lambda step: (scores[step]["eval_phrases_top1"], -step))
    assert state["best_global_step"] == best
    assert state["best_model_checkpoint"] == str(output / f"checkpoint-{best}")
    kept = FGCLIPModel.from_pretrained(output / f"checkpoint-{best}").state_dict()
    for name, value in FGCLIPModel.from_pretrained(output).state_dict().items():
        assert value.equal(kept[name]), name
    assert list(output.glob("runs/*/events*")) or list(output.rglob("events.out.tfevents*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_tasks": ["retrieval"]}, "eval_strategy"),
        ({"eval_strategy": "steps", "eval_steps": 1}, "no --eval_tasks"),
        ({"eval_tasks": ["retrival"], "eval_strategy": "epoch"}, "unknown task"),
        ({"eval_tasks": ["retrieval"], "eval_strategy": "epoch", "eval_task_options": ["boxes.limit=3"]}, "boxes"),
        ({"eval_tasks": ["retrieval"], "eval_strategy": "epoch", "eval_data": "nowhere"}, "retrieval"),
    ],
)
def test_tasks_that_cannot_run_are_refused_before_training(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        eval_tasks(Stage2Arguments(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **settings))
