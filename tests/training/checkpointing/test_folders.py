"""Checkpoint folders: sealed, moved into place, and recognized when something happened to them."""

import logging
from pathlib import Path

import pytest

from tests.training.test_trainer import make_trainer
from training.arguments import Stage2Arguments
from training.checkpointing.folders import (
    checkpoint_folders,
    find_damage,
    move_into_place,
    newest_good_checkpoint,
    seal,
)
from training.checkpointing.resuming import checkpoint_to_resume


def make_checkpoint(output: Path, step: int) -> Path:
    folder = output / ".unfinished" / f"checkpoint-{step}"
    (folder / "inner").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(200)) * step)
    (folder / "inner" / "state").write_bytes(b"state")
    seal(folder)
    move_into_place(folder, output / folder.name)
    return output / folder.name


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "weights").read_bytes())
    content[77] ^= 1
    (folder / "weights").write_bytes(content)


DAMAGES = {
    "cut": (lambda folder: (folder / "weights").write_bytes(b"short"), "weights has 5 bytes and should have 400"),
    "changed": (flip_a_bit, "weights has other contents"),
    "file gone": (lambda folder: (folder / "inner" / "state").unlink(), "inner/state is missing"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "no manifest.json"),
    "torn manifest": (lambda folder: (folder / "manifest.json").write_text('{"files": {"we'), "not readable"),
    "other manifest": (lambda folder: (folder / "manifest.json").write_text("[]"), "not readable"),
}


def test_a_sealed_checkpoint_is_good(tmp_path):
    folder = make_checkpoint(tmp_path, 2)
    assert find_damage(folder) is None
    assert newest_good_checkpoint(tmp_path) == folder


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(kind, tmp_path, caplog):
    first, second = make_checkpoint(tmp_path, 1), make_checkpoint(tmp_path, 2)
    harm, message = DAMAGES[kind]
    harm(second)
    with caplog.at_level(logging.WARNING):
        assert newest_good_checkpoint(tmp_path) == first
    assert message in caplog.text
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["checkpoint-1"]
    assert (tmp_path / "damaged-checkpoint-2").is_dir()


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    make_checkpoint(tmp_path, 3)
    (make_checkpoint(tmp_path, 3) / "more").write_text("x")
    assert find_damage(tmp_path / "checkpoint-3") is None
    assert not (tmp_path / "replaced-checkpoint-3").exists()


def test_order_is_by_step_and_other_folders_are_no_checkpoints(tmp_path):
    for step in (10, 9, 100):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]


def arguments(folder: Path, **settings) -> Stage2Arguments:
    return Stage2Arguments(output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", **settings)


def test_a_run_resumes_by_itself_or_starts_anew(tmp_path):
    assert checkpoint_to_resume(arguments(tmp_path)) is None
    newest = make_checkpoint(tmp_path, 4)
    (tmp_path / ".unfinished" / "checkpoint-6").mkdir()
    assert checkpoint_to_resume(arguments(tmp_path)) == str(newest)
    assert not (tmp_path / ".unfinished").exists()
    assert checkpoint_to_resume(arguments(tmp_path, overwrite_output_dir=True)) is None
    assert checkpoint_folders(tmp_path) == []


def test_going_back_leaves_later_checkpoints_aside(tmp_path):
    earlier, _ = make_checkpoint(tmp_path, 4), make_checkpoint(tmp_path, 8)
    assert checkpoint_to_resume(arguments(tmp_path, resume_from_checkpoint=str(earlier))) == str(earlier)
    assert checkpoint_folders(tmp_path) == [earlier]
    assert (tmp_path / "superseded-checkpoint-8").is_dir()


def test_a_damaged_or_missing_checkpoint_that_was_asked_for_is_refused(tmp_path):
    folder = make_checkpoint(tmp_path, 4)
    flip_a_bit(folder)
    with pytest.raises(ValueError, match="other contents"):
        checkpoint_to_resume(arguments(tmp_path, resume_from_checkpoint=str(folder)))
    with pytest.raises(ValueError, match="no such folder"):
        checkpoint_to_resume(arguments(tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-5")))


def test_old_checkpoints_go_and_the_best_one_stays(tiny_model, processor, tmp_path):
    settings = {"max_steps": 5, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    trainer = make_trainer(Stage2Arguments, tiny_model, processor, tmp_path, **settings)
    trainer.train()
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["checkpoint-4", "checkpoint-5"]
    assert [find_damage(path) for path in checkpoint_folders(tmp_path)] == [None, None]
    trainer.state.best_global_step, trainer.state.best_model_checkpoint = 4, str(tmp_path / "checkpoint-4")
    trainer.state.global_step = 6
    trainer._save_checkpoint(trainer.model, None)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["checkpoint-4", "checkpoint-6"]
