"""Exports of FG-CLIP 2 agree with PyTorch at grids they were not traced with."""

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from modeling_fgclip.exporting import export


@pytest.fixture
def checkpoint(tiny_fgclip2, fgclip2_processor, tmp_path):
    tiny_fgclip2.save_pretrained(tmp_path / "checkpoint")
    fgclip2_processor.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_torch_export(checkpoint, tmp_path):
    assert max(export(str(checkpoint), tmp_path / "out", ["torch"]).differences.values()) < 1e-4


@torch.no_grad()
def test_onnx(checkpoint, tiny_fgclip2, fgclip2_processor, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    exported = export(str(checkpoint), tmp_path / "out")
    names = ("vision", "square_vision", "dense", "region", "text", "box_text", "long_text")
    assert set(exported.differences) == {f"onnx/{name}_model.onnx" for name in names}
    assert max(exported.differences.values()) < 1e-4

    def run(name: str, **inputs: torch.Tensor) -> list[torch.Tensor]:
        session = onnxruntime.InferenceSession(tmp_path / "out" / "onnx" / f"{name}.onnx")
        return [torch.from_numpy(x) for x in session.run(None, {name: x.numpy() for name, x in inputs.items()})]

    pictures = [Image.effect_mandelbrot(size, (-2, -1, 1, 1), 40) for size in ((150, 40), (33, 95), (64, 64))]
    inputs = {
        name: tensor.long() if "mask" in name else tensor
        for name, tensor in fgclip2_processor(images=pictures).items()
    }
    boxes = torch.tensor([[[0.2, 0.1, 0.9, 0.8], [0.0, 0.0, 0.0, 0.0]]] * 3)
    output = tiny_fgclip2(**inputs, boxes=boxes)
    dense, image_embeds = run("dense_model", **inputs)
    assert_close(image_embeds, output.image_embeds, rtol=0, atol=1e-4)
    assert_close(run("vision_model", **inputs)[0], output.image_embeds, rtol=0, atol=1e-4)
    own = {name: inputs[name] for name in ("pixel_attention_mask", "spatial_shapes")}
    (regions,) = run("region_model", dense_map=dense, boxes=boxes, **own)
    assert_close(regions, output.region_embeds, rtol=0, atol=1e-4)
    for name, kind, settings in (
        ("text_model", "short", {}),
        ("box_text_model", "box", {}),
        ("long_text_model", "long", {"long_text": True}),
    ):
        ids = fgclip2_processor(text=["a dog", "a cat sleeps", "一只狗"], **settings)["input_ids"]
        expected = torch.nn.functional.normalize(tiny_fgclip2.get_text_features(ids, walk_type=kind), dim=-1)
        assert_close(run(name, input_ids=ids)[0], expected, rtol=0, atol=1e-4)
