"""The detector's training: novel boxes stay unseen, resume is exact, two processes are one."""

# ruff: noqa: I001
from __future__ import annotations

import tests.eval.detection.needs_torchvision  # noqa: F401

import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from dataset_scripts.ov_coco import read_detection
from eval.adapters import load_adapter
from eval.detection.checkpoint import load_detector
from eval.detection.predict import predict
from eval.images import ImageFile
from modeling_fgclip import FGCLIP2Model
from tests.conftest import make_tiny_fgclip2, make_tiny_model
from tests.training.detection.runs import DETECTOR, write_data
from training.detection.augmentation import DetectionAugmentation
from training.detection.data import DetectionExamples, check_base_boxes

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, processor) -> Path:
    folder = tmp_path_factory.mktemp("detection")
    write_data(folder / "data")
    model = make_tiny_model(processor)
    config = model.config
    config.vision_config.num_hidden_layers = 4
    torch.manual_seed(0)
    type(model)(config).save_pretrained(folder / "encoder")
    processor.save_pretrained(folder / "encoder")
    return folder


def run(
    folder: Path, output: Path, *changes: str, processes: int = 1, kill_at: int = 0, encoder: str = "encoder"
) -> dict[str, torch.Tensor]:
    arguments = [
        *("--model_name_or_path", str(folder / encoder), "--detector", *DETECTOR),
        *("--annotations", str(folder / "data" / "instances.json"), "--images", str(folder / "data" / "images")),
        *("--classes", str(folder / "data" / "classes.json"), "--output_dir", str(output), "--use_cpu", "True"),
        *("--bf16", "False", "--report_to", "none", "--logging_steps", "1", "--learning_rate", "1e-3"),
        *("--warmup_steps", "1", "--save_strategy", "steps", "--save_steps", "2", "--disable_tqdm", "True"),
        *changes,
    ]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.training.detection.runs", *arguments]
    ranks = []
    for rank in range(processes):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "KILL_AT": str(kill_at), "FIRST_SAMPLES": "1"}
        if processes > 1:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            environment |= {name: str(value) for name, value in place.items()}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [rank.communicate(timeout=900)[1] for rank in ranks]
    expected = -signal.SIGKILL if kill_at else 0
    assert [rank.returncode for rank in ranks] == [expected] * processes, errors[0][-3000:]
    return {} if kill_at else load_file(output / "detector.safetensors")


def history(output: Path) -> list[dict[str, float]]:
    log = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [{k: v for k, v in e.items() if k.startswith("loss")} for e in log if "loss" in e]


def test_a_killed_run_continues_bit_equal(folder: Path, tmp_path: Path) -> None:
    whole = run(folder, tmp_path / "whole", "--max_steps", "5", "--per_device_train_batch_size", "2")
    changes = ("--max_steps", "5", "--per_device_train_batch_size", "2")
    run(folder, tmp_path / "killed", *changes, kill_at=3)
    resumed = run(folder, tmp_path / "killed", *changes)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert history(tmp_path / "whole") == history(tmp_path / "killed")
    assert len(history(tmp_path / "whole")) == 5
    assert {"loss_objectness", "loss_rpn_box_reg", "loss_class", "loss_box"} < set(history(tmp_path / "whole")[0])


def test_fgclip2_carries_a_detector(folder: Path, tmp_path: Path, fgclip2_processor) -> None:
    """From its checkpoint to detections of a class that training did not know; its weights stay as they were."""
    config = make_tiny_fgclip2(fgclip2_processor).config
    config.vision_config.num_hidden_layers = 4
    model = FGCLIP2Model(config)
    model.save_pretrained(folder / "fgclip2")
    fgclip2_processor.save_pretrained(folder / "fgclip2")
    changes = ("--max_steps", "3", "--per_device_train_batch_size", "4")
    trained = run(folder, tmp_path / "detector", *changes, encoder="fgclip2")
    assert not any("encoder" in name for name in trained)
    losses = [entry["loss"] for entry in history(tmp_path / "detector")]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    detector = load_detector(tmp_path / "detector", ["cat", "dog"])
    assert all(
        torch.equal(value, detector.backbone.encoder.model.state_dict()[name])
        for name, value in model.state_dict().items()
    )
    (found,) = predict(detector, [ImageFile(folder / "data" / "images" / "0.png")], progress=False)
    assert len(found["boxes"]) == len(found["scores"])
    assert set(found["labels"].tolist()) <= {0, 1}
    with pytest.raises(ValueError, match="another encoder"):
        load_detector(tmp_path / "detector", ["cat"], load_adapter(str(folder / "encoder")))


def test_two_processes_are_one(folder: Path, tmp_path: Path) -> None:
    """With all places of the samples filled, each image counts alike."""
    still = ("--max_steps", "2", "--min_scale", "1", "--max_scale", "1", "--max_grad_norm", "0")
    one = run(folder, tmp_path / "one", *still, "--per_device_train_batch_size", "4")
    two = run(folder, tmp_path / "two", *still, "--per_device_train_batch_size", "2", processes=2)
    for name, value in one.items():
        assert_close(two[name], value, atol=2e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")
    first, second = history(tmp_path / "one"), history(tmp_path / "two")
    assert_close([e["loss"] for e in second], [e["loss"] for e in first], atol=1e-4, rtol=1e-4)


def test_examples_hold_base_boxes_alone(folder: Path) -> None:
    data = read_detection(folder / "data" / "instances.json", ("cat",))
    examples = DetectionExamples(data, folder / "data" / "images", DetectionAugmentation(64))
    assert {label for i in range(len(examples)) for label in examples[i]["labels"].tolist()} == {0}
    batch = examples.collate([{**examples[i], "draw": 0} for i in range(3)])
    assert all(set(target["labels"].tolist()) <= {1} for target in batch["targets"])
    again = examples.collate([{**examples[i], "draw": 0} for i in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(batch["images"], again["images"], strict=True))
    other = examples.collate([{**examples[i], "draw": 1} for i in range(3)])
    assert any(a.shape != b.shape for a, b in zip(batch["images"], other["images"], strict=True))


def test_data_that_do_not_belong_together(folder: Path, tmp_path: Path) -> None:
    data = read_detection(folder / "data" / "instances.json", ("cat",))
    with pytest.raises(ValueError, match="is not there"):
        DetectionExamples(data, tmp_path, DetectionAugmentation(64))
    data.images[0].size = (640, 480)
    examples = DetectionExamples(data, folder / "data" / "images", DetectionAugmentation(64))
    with pytest.raises(ValueError, match="declares 640×480 pixels, the picture has 64×48"):
        examples[0]
    data.images[1].labels[:] = 3
    with pytest.raises(ValueError, match="not base classes"):
        DetectionExamples(data, folder / "data" / "images", DetectionAugmentation(64))
    for image in data.images:
        image.crowd[:] = True
    with pytest.raises(ValueError, match="no box of a base class"):
        check_base_boxes(data)
