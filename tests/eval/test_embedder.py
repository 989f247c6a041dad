"""The embedder: caching, missing images, box order, several processes, and the command line around it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from eval import evaluate_model
from eval.__main__ import main
from eval.adapters import adapter_for
from eval.embed import Embedder
from eval.images import Boxes, ImageFile, MemoryImage
from tests.eval.color_model import RGB, ColorModel

REPOSITORY = Path(__file__).parents[2]


def unit(color: str) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(RGB[color], dtype=torch.float32) / 255 - 0.5, dim=0)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("kind", ["dense", "crop"])
def test_regions_come_back_in_order_whatever_the_batches(color_model, kind, batch_size):
    images, boxes, expected = [], [], []
    for colors in (("red",), (), ("blue", "green", "white"), ("yellow", "red")):
        image = Image.new("RGB", (64, 64))
        for i, color in enumerate(colors):
            image.paste(RGB[color], (16 * i, 0, 16 * i + 16, 64))
        images.append(MemoryImage(image))
        boxes.append(Boxes(np.array([[16 * i, 0, 16 * i + 16, 64] for i in range(len(colors))], np.float32), (64, 64)))
        expected += [unit(color) for color in colors]
    embedder = Embedder(color_model, batch_size=batch_size, region_features=kind, progress=False)
    features, valid, clipped = embedder.regions(images, boxes)
    assert valid.all()
    assert clipped == 0
    torch.testing.assert_close(features, torch.stack(expected), rtol=0, atol=0.02)


def test_texts_are_deduplicated_within_and_across_calls(color_model):
    embedder = Embedder(color_model, progress=False)
    first = embedder.texts(["red", "blue", "red"])
    embedder.texts(["blue", "green"])
    assert sorted(color_model.texts_encoded) == ["blue", "green", "red"]
    torch.testing.assert_close(first, torch.stack([unit("red"), unit("blue"), unit("red")]))
    embedder.texts(["red"], "long")  # long text is another path
    assert len(color_model.texts_encoded) == 4
    with pytest.raises(ValueError, match="1 texts are empty"):
        embedder.texts(["red", "  "])


def test_cache_resumes_and_notices_changes(tmp_path, paint):
    files = [paint(tmp_path / f"{i}.png", color) for i, color in enumerate(list(RGB) * 4)]

    def embed(model: ColorModel, **settings):
        return Embedder(model, batch_size=2, cache_dir=tmp_path / "cache", progress=False, **settings).images(
            [ImageFile(f) for f in files]
        )[0]

    plain = Embedder(ColorModel(), batch_size=2, progress=False).images([ImageFile(f) for f in files])[0]
    model = ColorModel()
    torch.manual_seed(0)
    weights = model.model.state_dict()
    torch.testing.assert_close(embed(model), plain)
    assert model.images_encoded == 24

    def again() -> ColorModel:
        fresh = ColorModel()
        fresh.model.load_state_dict(weights)
        return fresh

    shards = sorted((tmp_path / "cache/images").glob("*.safetensors"))
    assert len(shards) == 2  # 12 batches, 8 a shard
    warm = again()
    torch.testing.assert_close(embed(warm), plain, rtol=0, atol=0)
    assert warm.images_encoded == 0
    shards[0].unlink()  # as after a kill: one shard is there, one is not
    half = again()
    torch.testing.assert_close(embed(half), plain, rtol=0, atol=0)
    assert half.images_encoded in (8, 16)
    shards[1].write_bytes(b"half a file")
    broken = again()
    torch.testing.assert_close(embed(broken), plain, rtol=0, atol=0)
    assert broken.images_encoded in (8, 16)
    paint(files[0], "green")  # a changed image, other weights and another precision are all other embeddings
    changed = again()
    assert not torch.equal(embed(changed)[0], plain[0])
    trained = again()
    with torch.no_grad():
        trained.model.weight += 1
    embed(trained)
    assert trained.images_encoded == 24


def test_unreadable_images_are_named_or_counted(tmp_path, paint, color_model):
    good = ImageFile(paint(tmp_path / "good.png", "red"))
    (tmp_path / "bad.png").write_bytes(b"\x89PNG but no more")
    bad, gone = ImageFile(tmp_path / "bad.png"), ImageFile(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"bad\.png cannot be decoded.*allow_missing"):
        Embedder(color_model, progress=False).images([good, bad])
    lenient = Embedder(color_model, batch_size=2, allow_missing=True, progress=False)
    features, valid = lenient.images([bad, gone, good, gone, good])
    assert valid.tolist() == [False, False, True, False, True]
    torch.testing.assert_close(features[2], unit("red"), rtol=0, atol=0.02)
    boxes = [Boxes(np.array([[0, 0, 1, 1]] * 2, np.float32))] * 3
    _, valid, _ = lenient.regions([gone, good, bad], boxes)
    assert valid.tolist() == [False, False, True, True, False, False]


def test_wrong_settings_and_models_without_regions(color_model):
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16; got 'float16'"):
        Embedder(color_model, precision="float16")
    with pytest.raises(ValueError, match="region_features must be dense or crop"):
        Embedder(color_model, region_features="roi")
    color_model.dense_kind = None
    image = MemoryImage(Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match="no region features from dense maps; use region_features=crop"):
        Embedder(color_model).regions([image], [Boxes(np.array([[0, 0, 1, 1]], np.float32))])


def test_nan_features_are_an_error(tiny_fgclip, tiny_processor):
    model = copy.deepcopy(tiny_fgclip)
    with torch.no_grad():
        model.visual_projection.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN or infinite images features"):
        Embedder(adapter_for(model, tiny_processor), progress=False).images([MemoryImage(Image.new("RGB", (32, 32)))])


def test_bfloat16_and_float32_agree_roughly_and_the_mode_is_restored(tiny_fgclip, tiny_processor, record_folder):
    model = tiny_fgclip.train()
    results = {
        precision: evaluate_model(
            model, tiny_processor, {"phrases": {"data": record_folder}}, precision=precision, progress=False
        )
        for precision in ("float32", "bfloat16")
    }
    assert model.training
    model.eval()
    assert results["bfloat16"]["phrases"].settings["precision"] == "bfloat16"
    assert (
        results["float32"]["phrases"].scores["top5"].count == results["bfloat16"]["phrases"].scores["top5"].count == 24
    )
    random = np.random.default_rng(0)
    images = [MemoryImage(Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8))) for _ in range(3)]
    boxes = [Boxes(np.array([[0.1, 0.2, 0.7, 0.9]], np.float32))] * 3
    adapter = adapter_for(model, tiny_processor)
    plain, half = (Embedder(adapter, precision=name, progress=False) for name in ("float32", "bfloat16"))
    for features, other in (
        (plain.images(images)[0], half.images(images)[0]),
        (plain.regions(images, boxes)[0], half.regions(images, boxes)[0]),
        (plain.texts(["a", "b c"]), half.texts(["a", "b c"])),
    ):
        assert not torch.equal(features, other)
        assert (features * other).sum(-1).min() > 0.999


class CastsToBfloat16(TorchDispatchMode):
    """Counts the matrices that are cast, by shape."""

    def __init__(self):
        super().__init__()
        self.shapes: Counter[tuple[int, ...]] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and kwargs.get("dtype") == torch.bfloat16:
            self.shapes[tuple(args[0].shape)] += 1
        return function(*args, **kwargs)


def test_weights_are_cast_once_for_all_batches_and_never_kept_longer(tiny_fgclip, tiny_processor):
    model = copy.deepcopy(tiny_fgclip)
    random = np.random.default_rng(0)
    images = [MemoryImage(Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8))) for _ in range(6)]
    embedder = Embedder(adapter_for(model, tiny_processor), batch_size=2, precision="bfloat16", progress=False)
    with CastsToBfloat16() as casts:
        before, _ = embedder.images(images)  # 3 batches
    layers = [layer.mlp.fc1.weight.shape for layer in model.vision_model.encoder.layers]
    assert casts.shapes[tuple(layers[0])] == len(layers)
    with torch.no_grad():  # as a step of training would
        model.vision_model.encoder.layers[0].mlp.fc1.weight.mul_(-3)
    after, _ = embedder.images(images)
    fresh = Embedder(adapter_for(model, tiny_processor), batch_size=2, precision="bfloat16", progress=False)
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, fresh.images(images)[0], rtol=0, atol=0)


def test_a_batch_fits_the_device_unless_it_is_given(color_model):
    assert Embedder(color_model, device="cpu", progress=False).batch_size == 8
    assert Embedder(color_model, device="cpu", num_workers=None, progress=False).num_workers == 0
    elsewhere = Embedder(color_model, device="meta", num_workers=None, progress=False)
    assert elsewhere.batch_size == 64
    assert elsewhere.num_workers > 0
    assert Embedder(ColorModel(), batch_size=3, device="cpu", progress=False).batch_size == 3
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        Embedder(ColorModel(), batch_size=0)


@pytest.fixture(scope="module")
def record_folder(tmp_path_factory) -> Path:
    """24 boxes in 12 photographs of noise: a random model's scores are as arbitrary as can be."""
    root = tmp_path_factory.mktemp("records")
    random = np.random.default_rng(0)
    rows = []
    (root / "images").mkdir()
    for i in range(12):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(root / f"images/{i}.png")
        boxes = [
            {"bbox": [0.0, 0.0, 0.5, 0.9, 1.0], "short_expr": f"thing {i}", "flag_short_neg": 1, "short_expr_negs": {"0": f"no {i}", "1": f"not {i}"}},
            {"bbox": [0.4, 0.1, 1.0, 1.0, 1.0], "short_expr": f"object {i}", "flag_short_neg": 0},
        ]  # fmt: skip
        rows.append(
            {"f_path": f"{i}.png", "caption": f"a long caption {i}", "short_caption": f"short {i}", "bbox_info": boxes}
        )
    (root / "jsonfiles").mkdir()
    (root / "jsonfiles/part.json").write_text(json.dumps(rows))
    return root


def stored(folder: Path, task: str) -> dict:
    content = json.loads((folder / "results" / f"{task}.json").read_text())
    return {name: value for name, value in content.items() if name not in ("seconds", "environment")}


def test_one_and_two_processes_give_the_same_numbers(tiny_checkpoint, record_folder, tmp_path):
    command = [
        "--model",
        str(tiny_checkpoint),
        "--tasks",
        "negatives,retrieval",
        "--data",
        str(record_folder),
        "--batch_size",
        "1",
        "--num_workers",
        "0",
    ]
    main([*command, "--output", str(tmp_path / "one")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "eval"]
    done = subprocess.run(
        [*torchrun, *command, "--output", str(tmp_path / "two")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("architecture: FG-CLIP") == 1  # one process speaks
    for task in ("negatives", "retrieval"):
        assert stored(tmp_path / "one", task) == stored(tmp_path / "two", task)


def test_command_line_resumes_overwrites_and_refuses(tiny_checkpoint, record_folder, tmp_path, capsys):
    command = [
        "--model",
        str(tiny_checkpoint),
        "--tasks",
        "phrases",
        "--data",
        str(record_folder),
        "--output",
        str(tmp_path),
        "--num_workers",
        "0",
    ]
    first = main(command)["phrases"]
    assert "blind control" in capsys.readouterr().out
    again = main(command)["phrases"]
    assert "not run again" in capsys.readouterr().out
    assert (again.scores, again.seconds) == (first.scores, first.seconds)
    np.testing.assert_array_equal(again.outcomes["top1"], first.outcomes["top1"])
    main([*command, "--task_options", "phrases.limit=3"])  # other options are another run
    assert "not run again" not in capsys.readouterr().out
    main([*command, "--dry_run"])
    assert "task phrases: 12 images, 0 missing" in capsys.readouterr().out
    main(["--list_tasks"])
    assert "fgovd: " in capsys.readouterr().out
    for wrong, message in (
        (["--task_options", "fgovd.limit=3"], "is for task 'fgovd', which is not run"),
        (["--task_options", "limit=3"], "TASK.OPTION=VALUE"),
        (["--tasks", "nothing"], "unknown task 'nothing'"),
    ):
        with pytest.raises(ValueError, match=message):
            main([*command, *wrong])
    for unknown in ("--batchsize", "--batch"):
        with pytest.raises(SystemExit, match="2"):
            main([*command, unknown, "3"])
        assert f"unrecognized arguments: {unknown} 3" in capsys.readouterr().err
