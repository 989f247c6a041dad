"""FG-CLIP 2 by the Auto classes: published repositories with this package, our folders without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from modeling_fgclip import FGCLIP2Config, FGCLIP2Model, FGCLIP2Processor
from tests.conftest import FIXTURES
from tests.published_repository import write_published_fgclip2

SCRIPT = """
import importlib.util, sys, torch
sys.path = [path for path in sys.path if path not in ("", {repository!r})]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
assert importlib.util.find_spec("modeling_fgclip") is None
from PIL import Image
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification, AutoProcessor

folder = {folder!r}
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(images=Image.open(folder + "/image.png"), text=["a dog", "a cat"], boxes=[[0, 0, 20, 20]])
logits = {{}}
for auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification):
    model = auto_class.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        output = model(**inputs)
    logits[auto_class.__name__] = [output.logits_per_image, output.region_embeds]
torch.save(logits, folder + "/logits.pt")
"""


@pytest.fixture
def published(fgclip2_processor, tmp_path) -> Path:
    return write_published_fgclip2(tmp_path / "published", FIXTURES / "tiny_fgclip2", fgclip2_processor.tokenizer)


@pytest.mark.parametrize("trust", [{}, {"trust_remote_code": True}, {"trust_remote_code": False}])
def test_a_published_repository_is_ours_with_the_package(published, trust):
    assert isinstance(AutoConfig.from_pretrained(published, **trust), FGCLIP2Config)
    for auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification):
        assert isinstance(auto_class.from_pretrained(published, **trust), FGCLIP2Model)
    processor = AutoProcessor.from_pretrained(published, **trust)
    assert isinstance(processor, FGCLIP2Processor)
    assert processor.image_processor.patch_budgets == [128, 256, 576, 784, 1024]


@pytest.mark.parametrize("with_temperatures", [False, True])
def test_every_tensor_is_the_files(published, with_temperatures):
    file = published / "model.safetensors"
    stored = load_file(file)
    if with_temperatures:
        stored |= {"logit_scale_finegraind": torch.tensor(3.5), "logit_scale_hardneg": torch.tensor(2.5)}
        save_file({name: tensor.contiguous() for name, tensor in stored.items()}, file, metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(published, dtype=torch.float32)
    state = model.state_dict()
    for name, tensor in stored.items():
        assert torch.equal(state[name], tensor.float()), name
    added = {name: state[name].item() for name in state.keys() - stored.keys()}
    expected = {} if with_temperatures else {"logit_scale_finegraind": 4.6052, "logit_scale_hardneg": 4.6052}
    assert added == pytest.approx(expected)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        assert not tensor.is_meta, name
    buffers = dict(model.named_buffers())
    assert [name.rsplit(".", 1)[1] for name in buffers] == ["position_ids"]
    for positions in buffers.values():
        assert torch.equal(positions[0], torch.arange(64))


def test_saved_names_and_shapes_are_the_published_ones(published, tmp_path):
    FGCLIP2Model.from_pretrained(published).save_pretrained(tmp_path / "ours")
    saved, stored = load_file(tmp_path / "ours" / "model.safetensors"), load_file(published / "model.safetensors")
    assert saved.keys() - stored.keys() == {"logit_scale_finegraind", "logit_scale_hardneg"}
    assert saved["logit_scale_hardneg"].shape == ()
    for name, tensor in stored.items():
        assert (saved[name].shape, torch.equal(saved[name].to(tensor.dtype), tensor)) == (tensor.shape, True), name


@torch.no_grad()
def test_published_snippets_run(published, golden2):
    """As in the published README: retrieval of long captions, dense features, regions by two interfaces."""
    model = AutoModelForCausalLM.from_pretrained(published, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(published)
    image = Image.fromarray(golden2["image_0"].numpy())
    image_input = Siglip2ImageProcessorPil.from_pretrained(published)(
        images=image, max_num_patches=128, return_tensors="pt"
    )
    captions = ["a dog runs over a field", "a light red wooden star"]
    caption_input = tokenizer(captions, padding="max_length", max_length=196, truncation=True, return_tensors="pt")
    image_feature = model.get_image_features(**image_input)
    text_feature = model.get_text_features(**caption_input, walk_type="long")
    image_feature = image_feature / image_feature.norm(p=2, dim=-1, keepdim=True)
    text_feature = text_feature / text_feature.norm(p=2, dim=-1, keepdim=True)
    logits = image_feature @ text_feature.T * model.logit_scale.exp() + model.logit_bias
    assert logits.shape == (1, 2)
    ours = model(input_ids=caption_input["input_ids"], **image_input, walk_type="long").logits_per_image
    assert_close(logits, ours)
    rows, columns = image_input["spatial_shapes"][0].tolist()
    dense = model.get_image_dense_feature(**image_input)[0][: rows * columns]
    assert_close(dense.view(rows, columns, -1), model.get_image_dense_features(**image_input)[0])
    box = [16.0, 8.0, 120.0, 90.0]
    by_pixels = model.get_image_region_features(**image_input, image_sizes=[(96, 160)], region_infos=[[box]])
    units = torch.tensor([columns / 160, rows / 96] * 2)
    by_patches = model.get_image_box_roi_features(
        **image_input, box_info=[torch.tensor([[0.0, *box]]) * torch.cat([torch.ones(1), units])]
    )
    assert_close(torch.nn.functional.normalize(by_pixels[0], dim=-1), by_patches)


@torch.no_grad()
def test_loads_without_the_package_and_gives_equal_logits(tiny_fgclip2, fgclip2_processor, tmp_path):
    tiny_fgclip2.save_pretrained(tmp_path)
    fgclip2_processor.save_pretrained(tmp_path)
    code = {path.name for path in tmp_path.glob("*.py")}
    assert {"modeling_fgclip2.py", "processing_fgclip2.py", "configuration_fgclip2.py"} <= code
    assert not code & {"modeling_fgclip.py", "processing_fgclip.py", "configuration_fgclip.py", "text_encoder.py"}
    assert "auto_map" in json.loads((tmp_path / "config.json").read_text())
    image = Image.effect_mandelbrot((48, 40), (-2, -1, 1, 1), 50).convert("RGB")
    image.save(tmp_path / "image.png")
    script = SCRIPT.format(folder=str(tmp_path), repository=str(Path(__file__).parents[2]))
    environment = {
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr
    output = tiny_fgclip2(**fgclip2_processor(images=image, text=["a dog", "a cat"], boxes=[[0, 0, 20, 20]]))
    logits = torch.load(tmp_path / "logits.pt")
    for name in ("AutoModel", "AutoModelForCausalLM", "AutoModelForZeroShotImageClassification"):
        assert_close(logits[name][0], output.logits_per_image)
        assert_close(logits[name][1], output.region_embeds)


def test_whoever_decides_on_a_family_knows_both_by_the_auto_classes():
    """In a process that has imported nothing else: a command that loads a checkpoint must not ask to run its code."""
    script = (
        "import modeling_fgclip.family; from transformers import CONFIG_MAPPING; "
        "assert {'fgclip', 'fgclip2'} <= set(CONFIG_MAPPING.keys())"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True, timeout=900)
