"""One checkpoint in every tool: the same embeddings, and the table of docs/use.md that says how closely."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline

from modeling_fgclip.exporting import Exported, export
from modeling_fgclip.pipeline_fgclip import TASK
from tests.modeling_fgclip.test_calls import LONG, TEXTS, normalized

ROOT = Path(__file__).parents[2]
# A folder where `npm i --ignore-scripts @huggingface/transformers` was run.
TRANSFORMERS_JS = os.environ.get("FGCLIP_TRANSFORMERS_JS")
# transformers.js and others resize with other filters; an image of the model's size is not resized.
SIDE = 64
BOXES = [[5, 5, 40, 60], [0, 0, 64, 64]]
BLOCK = re.compile(r"```python[^\n]*\n(.*?)```", re.DOTALL)

WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers"):
    sys.modules[name] = None  # an import of it fails
"""

NODE = """
import { readFileSync } from "node:fs";
import {
  AutoProcessor, AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection, RawImage, env,
} from "@huggingface/transformers";
const { parent, name, texts, image, dtype } = JSON.parse(readFileSync(process.argv[2]));
env.allowRemoteModels = false;
env.localModelPath = parent;
const tokenizer = await AutoTokenizer.from_pretrained(name);
const processor = await AutoProcessor.from_pretrained(name);
const text_model = await CLIPTextModelWithProjection.from_pretrained(name, { dtype });
const vision_model = await CLIPVisionModelWithProjection.from_pretrained(name, { dtype });
const answer = { texts: [] };
for (const text of texts) {
  const { text_embeds } = await text_model(await tokenizer([text]));
  answer.texts.push(Array.from(text_embeds.data));
}
const { image_embeds } = await vision_model(await processor(await RawImage.read(image)));
answer.image = Array.from(image_embeds.data);
console.log(JSON.stringify(answer));
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Saved as the trainer saves: `save_pretrained` of model and processor, nothing more."""
    from tests.conftest import make_processor, make_tiny_model

    folder = tmp_path_factory.mktemp("products") / "checkpoint"
    processor = make_processor()
    make_tiny_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    Image.effect_mandelbrot((SIDE, SIDE), (-2, -1, 1, 1), 30).convert("RGB").save(folder.parent / "photo.png")
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint) -> Exported:
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    return export(str(checkpoint), checkpoint.parent / "exported", precisions=("fp32", "fp16", "int8"))


@pytest.fixture(scope="module")
def expected(checkpoint) -> dict[str, torch.Tensor]:
    """What the model's own methods give: image (1, D), short and long texts (3, D), regions (2, D)."""
    from modeling_fgclip import FGCLIPModel, FGCLIPProcessor

    model = FGCLIPModel.from_pretrained(checkpoint).eval()
    processor = FGCLIPProcessor.from_pretrained(checkpoint)
    image = Image.open(checkpoint.parent / "photo.png")
    with torch.no_grad():
        inputs = processor(images=image, boxes=BOXES)
        short = model.get_text_features(**processor(text=TEXTS))
        long = model.get_text_features(**processor(text=LONG, long_text=True))
        return {
            "image": normalized(model.get_image_features(**inputs)),
            "texts": normalized(torch.cat([short, long])),
            "regions": normalized(model.get_region_features(**inputs)[0]),
            "scales": torch.stack([model.logit_scale.exp(), model.logit_scale_finegraind.exp()]),
        }


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return (found - expected).abs().max().item()


@torch.no_grad()
def auto_classes(checkpoint, expected) -> float:
    model, processor = AutoModel.from_pretrained(checkpoint).eval(), AutoProcessor.from_pretrained(checkpoint)
    image = Image.open(checkpoint.parent / "photo.png")
    output = model(**processor(images=image, text=[*TEXTS, LONG], boxes=BOXES, long_text="auto"))
    pairs = ((output.image_embeds, "image"), (output.text_embeds, "texts"), (output.region_embeds[0], "regions"))
    return max(difference(found, expected[name]) for found, name in pairs)


def pipelines(checkpoint, expected) -> float:
    image = Image.open(checkpoint.parent / "photo.png")
    features = torch.tensor(pipeline("image-feature-extraction", model=str(checkpoint))(image))
    labels = [*TEXTS, LONG]
    classify = pipeline("zero-shot-image-classification", model=str(checkpoint))
    found = {e["label"]: e["score"] for e in classify(image, candidate_labels=labels, hypothesis_template="{}")}
    scores = (expected["image"] @ expected["texts"].T * expected["scales"][0]).softmax(-1)[0]
    regions = pipeline(TASK, model=str(checkpoint))(image, boxes=BOXES, candidate_labels=TEXTS)
    wanted = (expected["regions"] @ expected["texts"][:2].T * expected["scales"][1]).softmax(-1)
    by_label = torch.tensor([[next(e["score"] for e in row if e["label"] == t) for t in TEXTS] for row in regions])
    return max(
        difference(features, expected["image"]),
        difference(torch.tensor([found[label] for label in labels]), scores),
        difference(by_label, wanted),
    )


def sentence_transformer(checkpoint, expected) -> float:
    library = pytest.importorskip("sentence_transformers", reason="needs the extra sentence-transformers")
    encoder = library.SentenceTransformer(str(checkpoint), trust_remote_code=True, device="cpu")
    texts = torch.from_numpy(encoder.encode([*TEXTS, LONG]))
    image = torch.from_numpy(encoder.encode([Image.open(checkpoint.parent / "photo.png")]))
    return max(difference(texts, expected["texts"]), difference(image, expected["image"]))


def onnx_without_torch(checkpoint, expected) -> float:
    """The program of docs/export.md, in a process that has neither torch nor transformers."""
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (program,) = [block for block in BLOCK.findall(page) if "import onnxruntime" in block]
    program = re.sub(r"texts = .*", f"texts = {[*TEXTS, LONG]!r}", program)
    program = re.sub(r"boxes = .*", f"boxes = np.array([{BOXES!r}], dtype=np.float32) / {SIDE}", program)
    program = program.replace("photo.jpg", "photo.png")
    show = "\nimport json\nprint(json.dumps([image_embeds.tolist(), text_embeds.tolist(), region_embeds[0].tolist()]))"
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + program + show],
        cwd=checkpoint.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr
    found = [torch.tensor(values) for values in json.loads(run.stdout.splitlines()[-1])]
    names = ("image", "texts", "regions")
    return max(difference(values, expected[name]) for values, name in zip(found, names, strict=True))


def in_node(checkpoint, dtype: str) -> dict[str, torch.Tensor]:
    folder = checkpoint.parent
    job = {"parent": str(folder), "name": "exported", "texts": [*TEXTS, LONG], "dtype": dtype}
    (folder / "job.json").write_text(json.dumps({**job, "image": str(folder / "photo.png")}))
    script = Path(TRANSFORMERS_JS) / "fgclip_test.mjs"
    script.write_text(NODE)
    run = subprocess.run(
        ["node", str(script), str(folder / "job.json")], capture_output=True, text=True, check=False, timeout=900
    )
    script.unlink()
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout.splitlines()[-1])
    return {"image": torch.tensor([answer["image"]]), "texts": torch.tensor(answer["texts"])}


def transformers_js(checkpoint, expected) -> float:
    found = in_node(checkpoint, "fp32")
    return max(difference(found[name], expected[name]) for name in found)


WAYS = {
    "`AutoModel`, `AutoProcessor`": auto_classes,
    "the three pipelines": pipelines,
    "`SentenceTransformer`": sentence_transformer,
    "ONNX Runtime, without torch and transformers": onnx_without_torch,
    "transformers.js 4 in Node": transformers_js,
}


def documented() -> dict[str, float]:
    """First column → bound, of the table in docs/use.md."""
    page = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")
    return {name: float(bound) for name, bound in re.findall(r"^\| (.*?) \| ([\d.e-]+) \|", page, re.MULTILINE)}


@pytest.mark.parametrize("way", [name for name in WAYS if "transformers.js" not in name])
def test_the_same_embeddings(way, checkpoint, expected, exported):
    found = WAYS[way](checkpoint, expected)
    print(f"{way}: {found:.1e}")
    assert found <= documented()[way] <= 1e-4


@pytest.mark.slow
@pytest.mark.skipif(not TRANSFORMERS_JS or not shutil.which("node"), reason="needs FGCLIP_TRANSFORMERS_JS and node")
def test_transformers_js(checkpoint, expected, exported):
    (way,) = [name for name in WAYS if "transformers.js" in name]
    found = WAYS[way](checkpoint, expected)
    print(f"{way}: {found:.1e}")
    assert found <= documented()[way] <= 1e-4
    smaller = in_node(checkpoint, "q8")
    cosines = [torch.cosine_similarity(smaller[name], expected[name]).min().item() for name in smaller]
    print("q8 in Node: cosine", min(cosines))
    assert min(cosines) > 0.99


@pytest.mark.parametrize("precision", ["fp16", "quantized"])
def test_smaller_files_keep_the_direction(precision, exported):
    cosines = {name: value for name, value in exported.cosines.items() if precision in name}
    print(cosines)
    assert len(cosines) == 3
    assert min(cosines.values()) > 0.99


def test_sentence_transformers_tells_long_captions_apart(checkpoint):
    """Two captions that begin with the same 77 tokens, of unit length each."""
    library = pytest.importorskip("sentence_transformers", reason="needs the extra sentence-transformers")
    encoder = library.SentenceTransformer(str(checkpoint), trust_remote_code=True, device="cpu")
    vectors = torch.from_numpy(encoder.encode([LONG, f"{LONG} and a dog runs over a field"]))
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(2))
    assert vectors[0] @ vectors[1] < 1 - 1e-5


def test_files_of_the_layout(checkpoint, exported):
    folder = checkpoint.parent / "exported"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    models = {
        f"onnx/{part}_model{suffix}.onnx"
        for part in ("text", "vision", "dense")
        for suffix in ("", "_fp16", "_quantized")
    }
    settings = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names == {*models, "onnx/region_model.onnx", *settings}
    # The region encoder takes the map; it does not hold the image encoder a second time.
    assert (folder / "onnx/region_model.onnx").stat().st_size < (folder / "onnx/vision_model.onnx").stat().st_size / 4


def test_the_command_prints_three_lines(checkpoint, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra export")
    command = [sys.executable, "-m", "modeling_fgclip.export", str(checkpoint), "--output", str(tmp_path / "out")]
    run = subprocess.run(
        [*command, "--precision", "fp32", "int8"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
    )
    assert run.returncode == 0, run.stderr
    said = (run.stdout + run.stderr).splitlines()
    said = [line for line in said if "torchao" not in line and "_pytree.py" not in line]  # torchao's own, on import
    assert len(said) <= 3, run.stdout + run.stderr
