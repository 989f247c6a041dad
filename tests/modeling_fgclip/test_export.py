"""Exports agree with PyTorch at sizes they were not traced with; the command checks that itself."""

import pytest
import torch
from torch.testing import assert_close

from modeling_fgclip import FGCLIPModel
from modeling_fgclip.export import export, main
from modeling_fgclip.export_encoders import AnySizeEmbeddings


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
    differences = export(str(checkpoint), tmp_path / "out", ["torch"])
    assert set(differences) == {"image_encoder.pt2", "text_encoder.pt2", "region_encoder.pt2"}
    assert max(differences.values()) < 1e-5
    program = torch.export.load(tmp_path / "out" / "image_encoder.pt2")
    pixels = torch.rand(5, 3, 48, 80)
    expected = torch.nn.functional.normalize(
        FGCLIPModel.from_pretrained(checkpoint).get_image_features(pixels), dim=-1
    )
    assert_close(program.module()(pixel_values=pixels), expected, rtol=1e-4, atol=1e-5)


def test_onnx(checkpoint, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    main([str(checkpoint), "--output", str(tmp_path / "out")])
    assert capsys.readouterr().out.count("largest difference from PyTorch") == 3
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    model = FGCLIPModel.from_pretrained(checkpoint).eval()
    session = onnxruntime.InferenceSession(tmp_path / "out" / "region_encoder.onnx")
    pixels, boxes = torch.rand(1, 3, 96, 64), torch.tensor([[[0.2, 0.1, 0.9, 0.8], [0.0, 0.0, 0.0, 0.0]]])
    (regions,) = session.run(None, {"pixel_values": pixels.numpy(), "boxes": boxes.numpy()})
    expected = torch.nn.functional.normalize(model.get_region_features(pixels, boxes[:, :1]), dim=-1)
    assert_close(torch.from_numpy(regions)[:, :1], expected, rtol=1e-4, atol=1e-5)
    assert not regions[:, 1].any()  # padding


def test_unknown_format(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="tflite"):
        export(str(checkpoint), tmp_path, ["tflite"])
