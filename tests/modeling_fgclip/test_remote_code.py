"""A saved checkpoint in a fresh process that knows nothing of this package."""

import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

SCRIPT = """
import importlib.util, sys, torch
sys.path = [path for path in sys.path if path not in ("", {repository!r})]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
assert importlib.util.find_spec("modeling_fgclip") is None
from PIL import Image
from transformers import (
    AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification, AutoProcessor, pipeline
)

folder = {folder!r}
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
image = Image.open(folder + "/image.png")
inputs = processor(images=image, text=["a dog", "a light red wooden star"], boxes=[[0, 0, 20, 20]])
logits = {{}}
for auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification):
    model = auto_class.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        output = model(**inputs)
    logits[auto_class.__name__] = [output.logits_per_image, output.region_embeds]
classify = pipeline("zero-shot-image-classification", model=folder, trust_remote_code=True)
answer = classify(image, candidate_labels=["a dog", "a cat"])
assert {{entry["label"] for entry in answer}} == {{"a dog", "a cat"}}
features = pipeline("image-feature-extraction", model=folder, trust_remote_code=True)(image)
logits["pipeline"] = torch.tensor(features)
torch.save(logits, folder + "/logits.pt")
"""


@torch.no_grad()
def test_loads_without_the_package_and_gives_equal_logits(tiny_model, processor, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
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
    inputs = processor(images=image, text=["a dog", "a light red wooden star"], boxes=[[0, 0, 20, 20]])
    output = tiny_model(**inputs)
    logits = torch.load(tmp_path / "logits.pt")
    for name in ("AutoModel", "AutoModelForCausalLM", "AutoModelForZeroShotImageClassification"):
        torch.testing.assert_close(logits[name][0], output.logits_per_image)
        torch.testing.assert_close(logits[name][1], output.region_embeds)
    torch.testing.assert_close(logits["pipeline"], output.image_embeds)
