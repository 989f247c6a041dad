"""The published repository: by this package as it stands, and by the published quick start once our code lies over it."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from modeling_fgclip.convert import main
from tests.published_repository import write_published_repository

REPO = "qihoo360/fg-clip-base"
CAPTIONS = ["a photo of a cat", "a photo of a dog"]

# The calls of the published README's quick start, retrieval and dense features, with their arguments.
QUICK_START = """
import json, math
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, AutoModelForCausalLM
torch.nn.Module.cuda = lambda self: self  # no GPU here
model_root = "qihoo360/fg-clip-base"
image_size = 224
model = AutoModelForCausalLM.from_pretrained(model_root, trust_remote_code=True).cuda()
device = model.device
tokenizer = AutoTokenizer.from_pretrained(model_root)
image_processor = AutoImageProcessor.from_pretrained(model_root)
image = Image.open("cat.png").convert("RGB")
image = image.resize((image_size, image_size))
image_input = image_processor.preprocess(image, return_tensors='pt')['pixel_values'].to(device)
def tokens(captions, length):
    ids = tokenizer(captions, max_length=length, padding="max_length", truncation=True).input_ids
    return torch.tensor(ids, dtype=torch.long, device=device)
captions = ["a photo of a cat", "a photo of a dog"]
with torch.no_grad():
    image_feature = model.get_image_features(image_input)
    text_feature = model.get_text_features(tokens(captions, 77), walk_short_pos=True)
    long_feature = model.get_text_features(tokens(captions, 248), walk_short_pos=False)
    image_feature = image_feature / image_feature.norm(p=2, dim=-1, keepdim=True)
    text_feature = text_feature / text_feature.norm(p=2, dim=-1, keepdim=True)
logits_per_image = image_feature @ text_feature.T
logits_per_image = model.logit_scale.exp() * logits_per_image
with torch.no_grad():
    dense = model.get_image_dense_features(image_input)
dense = dense / dense.norm(p=2, dim=-1, keepdim=True)
similarity = (dense.squeeze() @ text_feature[0].squeeze().T).numpy()
side = int(math.sqrt(similarity.shape[0]))
print(json.dumps(dict(logits=logits_per_image.tolist(), long=long_feature.tolist(), map=similarity.reshape(side, side).tolist(),
    module=type(model).__module__)))
"""

WITH_PACKAGE = """
import json, torch
from PIL import Image
from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
model = FGCLIPModel.from_pretrained("qihoo360/fg-clip-base", dtype="float32").eval()
processor = FGCLIPProcessor.from_pretrained("qihoo360/fg-clip-base")
image = Image.open("cat.png").convert("RGB")
captions = ["a photo of a cat", "a photo of a dog"]
with torch.no_grad():
    logits = model(**processor(images=image.resize((224, 224)), text=captions)).logits_per_image
    long = model.get_text_features(**processor(text=captions, long_text=True))
    dense = model.get_image_dense_features(processor(images=image.resize((224, 224)))["pixel_values"])
print(json.dumps(dict(logits=logits.tolist(), long=long.tolist(), cells=dense.shape[1])))
"""


@pytest.fixture(scope="module")
def answers(hub, run_client, golden_checkpoint, processor, tmp_path_factory) -> tuple[dict, dict]:
    """What the package gives for the repository as it stands, and the quick start after the overlay."""
    folder = tmp_path_factory.mktemp("published_checkpoint")
    Image.effect_mandelbrot((100, 80), (-2, -1, 1, 1), 20).convert("RGB").save(folder / "cat.png")
    repository = write_published_repository(folder / "repository", golden_checkpoint, processor.tokenizer)
    hub.add(REPO, repository)
    as_it_stands = run_client(WITH_PACKAGE, folder)
    overlay = folder / "overlay"
    main([str(repository), "--code-only", "--output", str(overlay)])
    for path in overlay.iterdir():
        (repository / path.name).write_bytes(path.read_bytes())
    hub.add(REPO, repository)
    return as_it_stands, run_client(QUICK_START, folder, project=False)


@pytest.mark.slow
def test_quick_start_runs_on_our_code_and_agrees_with_the_package(answers):
    package, quick_start = answers
    assert quick_start["module"].startswith("transformers_modules.")
    assert_close(torch.tensor(quick_start["logits"]), torch.tensor(package["logits"]), rtol=1e-3, atol=1e-3)
    assert_close(torch.tensor(quick_start["long"]), torch.tensor(package["long"]), rtol=1e-3, atol=1e-4)
    assert len(quick_start["map"]) ** 2 == package["cells"]
