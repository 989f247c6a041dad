"""Exports agree with PyTorch at sizes they were not traced with; the command checks that itself."""

import pytest
import torch
from torch.testing import assert_close

from modeling_fgclip import FGCLIPModel
from modeling_fgclip.export import main
from modeling_fgclip.export_encoders import AnySizeEmbeddings
from modeling_fgclip.exporting import export


@pytest.fixture
def checkpoint(tiny_model, processor, tmp_path):
    tiny_model.save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_positions_are_resampled_as_in_the_model(golden_model, golden):
    own = golden_model.vision_model.embeddings
    any_size = AnySizeEmbeddings(own)
    assert_close(any_size(golden["pixel_values"]), own(golden["pixel_values"]), rtol=1e-4, atol=1e-6)
    assert_close(any_size(golden["pixel_values_other"]), golden["embeddings_other"], rtol=1e-4, atol=1e-6)


def test_torch_export(checkpoint, tmp_path):
    differences = export(str(checkpoint), tmp_path / "out", ["torch"]).differences
    assert set(differences) == {f"{name}_encoder.pt2" for name in ("image", "dense", "region", "text")}
    assert max(differences.values()) < 1e-5
    program = torch.export.load(tmp_path / "out" / "image_encoder.pt2")
    pixels = torch.rand(5, 3, 48, 80)
    expected = torch.nn.functional.normalize(
        FGCLIPModel.from_pretrained(checkpoint).get_image_features(pixels), dim=-1
    )
    assert_close(program.module()(pixel_values=pixels), expected, rtol=1e-4, atol=1e-5)


def test_onnx(checkpoint, tmp_path, capsys):
    """The region encoder on the dense encoder's map, and both text encoders."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    main([str(checkpoint), "--output", str(tmp_path / "out"), "--long_text"])
    assert capsys.readouterr().out.count("largest difference from PyTorch") == 1
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    model = FGCLIPModel.from_pretrained(checkpoint).eval()

    def run(name: str, **inputs: torch.Tensor) -> list[torch.Tensor]:
        session = onnxruntime.InferenceSession(tmp_path / "out" / "onnx" / f"{name}.onnx")
        return [torch.from_numpy(x) for x in session.run(None, {name: x.numpy() for name, x in inputs.items()})]

    pixels, boxes = torch.rand(1, 3, 96, 64), torch.tensor([[[0.2, 0.1, 0.9, 0.8], [0.0, 0.0, 0.0, 0.0]]])
    dense, _ = run("dense_model", pixel_values=pixels)
    (regions,) = run("region_model", dense_map=dense, boxes=boxes)
    expected = torch.nn.functional.normalize(model.get_region_features(pixels, boxes[:, :1]), dim=-1)
    assert_close(regions[:, :1], expected, rtol=1e-4, atol=1e-5)
    assert not regions[:, 1].any()  # padding
    ids = torch.tensor([[1, 2, 3, model.config.text_config.eos_token_id]])
    for name, is_short in (("text_model", True), ("long_text_model", False)):
        expected = torch.nn.functional.normalize(model.get_text_features(ids, walk_short_pos=is_short), dim=-1)
        assert_close(run(name, input_ids=ids)[0], expected, rtol=1e-4, atol=1e-5)


def test_unknown_format_and_precision(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="tflite"):
        export(str(checkpoint), tmp_path, ["tflite"])
    with pytest.raises(ValueError, match="int4"):
        export(str(checkpoint), tmp_path, precisions=["int4"])
