"""Unsound checkpoints are refused wherever one is loaded; sound ones load."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers import AutoModel, CLIPModel, SiglipConfig, SiglipModel

from eval.adapters import load_adapter
from eval.search.__main__ import main as search
from eval.visualize.__main__ import main as visualize
from fgclip.command_line import run_command
from modeling_fgclip import FGCLIPModel
from modeling_fgclip.checked_loading import UnsoundCheckpoint, common_prefix, load_checked
from modeling_fgclip.conversion import convert
from modeling_fgclip.convert import main
from modeling_fgclip.exporting import export
from tests.modeling_fgclip.unsound_checkpoints import SOUND, UNSOUND, make
from training.arguments import Stage1Arguments
from training.options import DataArguments, ModelArguments
from training.stages import main as train_main
from training.stages import train


@pytest.fixture
def checkpoint(tiny_model, processor, tmp_path):
    tiny_model.save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("variant", UNSOUND)
def test_unsound_checkpoints_are_refused_everywhere(variant, checkpoint, tmp_path):
    broken, out = str(make(variant, checkpoint, tmp_path / variant)), str(tmp_path / "out")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "a.png")
    loads = {
        "from_pretrained": lambda: FGCLIPModel.from_pretrained(broken),
        "auto": lambda: AutoModel.from_pretrained(broken),
        "eval": lambda: load_adapter(broken),
        "convert": lambda: convert(broken, tmp_path / "converted"),
        "export": lambda: export(broken, tmp_path / "exported", ["torch"]),
        "search": lambda: search(["index", str(tmp_path / "photos"), "--model", broken, "--output", out]),
        "visualize": lambda: visualize(
            [
                "similarity",
                "--model",
                broken,
                "--image",
                str(tmp_path / "photos" / "a.png"),
                "--phrase",
                "a star",
                "--output",
                out,
            ]
        ),
        "train": lambda: train(
            ModelArguments(model_name_or_path=broken),
            DataArguments(train_data=[str(tmp_path)]),
            Stage1Arguments(output_dir=out, bf16=False, use_cpu=True, report_to="none"),
        ),
    }
    for load in loads.values():
        with pytest.raises(UnsoundCheckpoint, match=UNSOUND[variant]):
            load()


@pytest.mark.parametrize("variant", SOUND)
def test_sound_checkpoints_load(variant, checkpoint, tiny_model, tmp_path):
    model = FGCLIPModel.from_pretrained(make(variant, checkpoint, tmp_path / variant), dtype=torch.float32)
    made = ("position_embedding_", "filip", "logit_scale_") if variant == "as_clip" else ()
    for name, tensor in tiny_model.state_dict().items():
        if not any(part in name for part in made):
            tolerance = 1e-2 if variant == "bf16" else 0
            assert_close(model.state_dict()[name], tensor, rtol=tolerance, atol=tolerance, msg=name)
    assert torch.isfinite(model.logit_scale_hardneg)


def test_the_command_that_is_named_strips_the_prefix(checkpoint, tiny_model, tmp_path, capsys):
    broken = make("prefix_module", checkpoint, tmp_path / "wrapped")
    fixed = tmp_path / "fixed"
    main([str(broken), "--strip-prefix", "module.", "--output", str(fixed)])
    assert "mapped     99 tensors" in capsys.readouterr().out
    for name, tensor in FGCLIPModel.from_pretrained(fixed).state_dict().items():
        assert torch.equal(tensor, tiny_model.state_dict()[name])
    with pytest.raises(ValueError, match=r"begins with 'foo\.'"):
        convert(str(checkpoint), tmp_path / "again", strip_prefix="foo.")


def test_training_tells_it_in_one_line(checkpoint, tmp_path, capsys):
    broken = make("nan", checkpoint, tmp_path / "nan")
    arguments = ["--model_name_or_path", str(broken), "--train_data", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        run_command(
            partial(train_main, Stage1Arguments),
            [*arguments, "--output_dir", str(tmp_path / "out"), "--bf16", "False"],
        )
    assert ended.value.code == 2
    assert "error: " in (line := capsys.readouterr().err.splitlines()[-1])
    assert "holds NaN or infinity in visual_projection.weight" in line


def test_a_shape_that_the_user_allows(checkpoint, tmp_path):
    broken = make("other_shape", checkpoint, tmp_path / "other")
    model, info = FGCLIPModel.from_pretrained(broken, ignore_mismatched_sizes=True, output_loading_info=True)
    assert [entry[0] for entry in info["mismatched_keys"]] == ["visual_projection.weight"]
    assert model.visual_projection.weight.shape == (24, 48)


def test_peers_are_looked_at_too(checkpoint, tmp_path):
    clip = make("as_clip", checkpoint, tmp_path / "clip")
    broken = make("missing_layer", clip, tmp_path / "broken")
    with pytest.raises(ValueError, match=r"CLIPModel needs; it lacks: vision_model"):
        load_checked(CLIPModel.from_pretrained, str(broken))
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    siglip = SiglipModel(
        SiglipConfig(text_config={**shape, "vocab_size": 9}, vision_config={**shape, "image_size": 16})
    )
    with torch.no_grad():
        siglip.logit_bias.fill_(torch.inf)
    siglip.save_pretrained(tmp_path / "siglip")
    with pytest.raises(ValueError, match="infinity in logit_bias"):
        load_checked(AutoModel.from_pretrained, str(tmp_path / "siglip"))


def test_prefixes():
    assert common_prefix({"a.b", "b"}, {"module.b", "module.a.b"}) == "module."
    assert common_prefix({"a.b", "b"}, {"module.b", "head"}) is None
    assert common_prefix({"a"}, set()) is None
