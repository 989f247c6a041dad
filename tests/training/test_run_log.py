"""What a run logs."""

import pytest
import torch

from tests.training.test_trainer import make_trainer
from training.arguments import Stage2Arguments
from training.planning.flops import batch_flops
from training.run_log import RunLog


def test_rates_and_shares_are_those_of_the_window(monkeypatch):
    clock = iter([0.0, 2.0, 5.0, 10.0, 10.0])
    monkeypatch.setattr("training.run_log.time.perf_counter", lambda: next(clock))
    log = RunLog(peak_flops=1e12)
    for regions in (3, 5):
        log.add({"loss_global": torch.tensor(float(regions))}, {"images": 4, "regions": regions, "flops": 10**12})
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
    log.add({"loss_global": torch.tensor(2.0)}, {"images": 4})
    other.load_state_dict(log.state_dict())
    other.add({"loss_global": torch.tensor(4.0)}, {"images": 2})
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
