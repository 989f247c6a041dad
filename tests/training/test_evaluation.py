"""Evaluation while a model trains."""

import json

import pytest

from modeling_fgclip import FGCLIPModel
from tests.training.checkpointing.test_resuming import command
from tests.training.runs import run
from training.arguments import Stage2Arguments
from training.evaluation import eval_tasks


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
