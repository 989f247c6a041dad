"""Building: what the parts give, the whole gives; images as LLaVA prepares them; a folder that needs none of our code."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipModel,
)

from dataset_scripts.formats.llava import IMAGE_FITS
from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from modeling_fgclip.family import FGCLIP, FGCLIP2
from modeling_fgclip.vision_tower import vision_tower
from tests.training.llava.towers import LANGUAGE_MODEL, write_language_model, write_tower
from training.llava.build import build_llava
from training.llava.commands.build import main

KINDS = ("fgclip", "fgclip2", "clip", "siglip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    write_language_model(folder / "lm")
    for kind in KINDS:
        write_tower(kind, folder / kind)
    return folder


def picture(width: int = 90, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def question(image: Image.Image, text: str = "what color?") -> list[dict]:
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]


def inputs_of(processor, messages) -> dict[str, torch.Tensor]:
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    return processor.apply_chat_template(messages, **options)


def hidden_states(folder: Path, kind: str, pixels: torch.Tensor) -> torch.Tensor:
    """What the encoder itself gives one block before its last."""
    if kind in ("clip", "siglip"):
        model = (CLIPModel if kind == "clip" else SiglipModel).from_pretrained(folder / kind).vision_model
    else:
        model = vision_tower(*(FGCLIP if kind == "fgclip" else FGCLIP2).load(folder / kind))[0]
    states = model(pixels, output_hidden_states=True).hidden_states[-2]
    return states[:, 1:] if kind in ("clip", "fgclip") else states


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_gives_what_its_parts_give(folder, kind):
    """Patches of the layer before the last, through Linear, GELU, Linear, in the places of `<image>`; else the LM."""
    model, processor = build_llava(folder / kind, folder / "lm")
    inputs = inputs_of(processor, question(picture()))
    patches = hidden_states(folder, kind, inputs["pixel_values"])
    projector = model.model.multi_modal_projector
    tokens = projector.linear_2(torch.nn.functional.gelu(projector.linear_1(patches)))
    language_model = AutoModelForCausalLM.from_pretrained(folder / "lm")
    ids = inputs["input_ids"]
    places = ids == model.config.image_token_id
    assert places.sum() == tokens.shape[1] == model.config.image_seq_length
    embeds = language_model.get_input_embeddings()(ids.masked_fill(places, 0))
    embeds[places] = tokens[0]
    expected = language_model(inputs_embeds=embeds).logits
    torch.testing.assert_close(model(**inputs).logits[..., : expected.shape[-1]], expected)


def expand2square(image: Image.Image, color: tuple[int, int, int]) -> Image.Image:
    """LLaVA's: the longer side's square, filled with the mean color, the image in its middle."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), color)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


@pytest.mark.parametrize("size", [(192, 96), (96, 193), (64, 64), (31, 30), (500, 7)])
def test_images_are_prepared_as_named(folder, size):
    image = picture(*size)
    square = {"height": 64, "width": 64}
    clip = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=square)
    color = tuple(int(value * 255) for value in clip.image_mean)
    expected = {
        "pad": clip(expand2square(image, color)),
        "crop": clip(image),
        "squash": FGCLIPProcessor.from_pretrained(folder / "fgclip").image_processor(image),
    }
    for fit in IMAGE_FITS:
        processor = build_llava(folder / "fgclip", folder / "lm", image_fit=fit)[1]
        assert processor.image_processor.image_fit == fit
        ours = processor.image_processor(image, return_tensors="np")["pixel_values"]
        assert np.abs(ours - np.asarray(expected[fit]["pixel_values"])).max() == 0, fit


OUTSIDE = """
import sys, torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, image = sys.argv[1:]
model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
content = [{"type": "image", "image": Image.open(image)}, {"type": "text", "text": "what color?"}]
inputs = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=True, return_dict=True,
    return_tensors="pt", add_generation_prompt=True)
with torch.no_grad():
    torch.save({"logits": model(**inputs).logits, "fit": processor.image_processor.image_fit}, folder + "/said.pt")
assert not {"modeling_fgclip", "training", "eval", "dataset_scripts", "fgclip"} & set(sys.modules)
"""


def outside(folder: Path, image: Path) -> dict:
    """What a process makes of a saved folder that cannot import this repository."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", OUTSIDE, str(folder), str(image)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "said.pt")


def test_a_saved_folder_needs_none_of_our_code(folder, tmp_path, capsys):
    arguments = ["--tower", str(folder / "fgclip"), "--language_model", str(folder / "lm"), "--image-fit", "squash"]
    main([*arguments, "--output", str(tmp_path)])
    assert "16 tokens an image" in capsys.readouterr().out
    picture().save(tmp_path / "picture.png")
    model, processor = build_llava(folder / "fgclip", folder / "lm", image_fit="squash")
    said = outside(tmp_path, tmp_path / "picture.png")
    with torch.no_grad():
        assert said["logits"].equal(model(**inputs_of(processor, question(picture()))).logits)
    assert said["fit"] == "squash"
    assert not list(tmp_path.glob("*.py"))


def test_the_projector_follows_the_seed(folder):
    weights = [build_llava(folder / "fgclip", folder / "lm", seed=seed)[0].state_dict() for seed in (0, 0, 1)]
    name = "model.multi_modal_projector.linear_1.weight"
    assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])
    assert not weights[0][name].equal(weights[2][name])


def test_a_complete_tokenizer_gets_no_tokens(folder, tmp_path):
    """Neither `<image>` nor padding twice, and embeddings are never cut."""
    model, processor = build_llava(folder / "fgclip", folder / "lm")
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    second = build_llava(folder / "fgclip", AutoModelForCausalLM.from_pretrained(folder / "lm"), again)[1]
    assert len(second.tokenizer) == len(processor.tokenizer)
    assert second.tokenizer.pad_token == "<unk>"  # Vicuna's own stays


def test_weights_have_one_type(folder):
    model = build_llava(folder / "fgclip", folder / "lm", dtype="bfloat16")[0]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in build_llava(folder / "fgclip", folder / "lm")[0].parameters()} == {torch.float32}


def granite(tokenizer) -> GraniteForCausalLM:
    """Whose logits are divided by a number."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    return GraniteForCausalLM(GraniteConfig(vocab_size=len(tokenizer), logits_scaling=8.0, **sizes))


def test_other_language_models(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder / "lm")
    tied = LlamaForCausalLM(LlamaConfig(**LANGUAGE_MODEL, tie_word_embeddings=True))
    model, processor = build_llava(folder / "fgclip", tied, tokenizer)
    assert model.config.tie_word_embeddings
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model(**inputs_of(processor, question(picture()))).logits.isfinite().all()
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=4, n_positions=256))
    with pytest.raises(ValueError, match="GPT2LMHeadModel shares its embeddings with its head"):
        build_llava(folder / "fgclip", gpt2, tokenizer)
    with pytest.raises(ValueError, match="GraniteForCausalLM makes its logits otherwise than by one matrix"):
        build_llava(folder / "fgclip", granite(tokenizer), tokenizer)


def test_mistakes_are_told(folder, tmp_path):
    fgclip = FGCLIPModel.from_pretrained(folder / "fgclip")
    processor = FGCLIPProcessor.from_pretrained(folder / "fgclip")
    for whole in (fgclip, fgclip.config, (fgclip, processor)):
        with pytest.raises(ValueError, match=r"Received FGCLIP\w+ as the tower; LLaVA needs the image encoder alone"):
            build_llava(whole, folder / "lm")
    with pytest.raises(ValueError, match="without its image processor"):
        build_llava(vision_tower(fgclip, processor)[0], folder / "lm")
    with pytest.raises(ValueError, match="image_fit='stretch'; it is one of pad, squash, crop"):
        build_llava(folder / "fgclip", folder / "lm", image_fit="stretch")
    with pytest.raises(ValueError, match="feature_layer=-5; the encoder has 3 layers: -4 to 3"):
        build_llava(folder / "fgclip", folder / "lm", feature_layer=-5)
    with pytest.raises(ValueError, match="dtype='int8'"):
        build_llava(folder / "fgclip", folder / "lm", dtype="int8")
    with pytest.raises(ValueError, match="give its tokenizer as well"):
        build_llava(folder / "fgclip", AutoModelForCausalLM.from_pretrained(folder / "lm"))
    tokenizer = AutoTokenizer.from_pretrained(folder / "lm")
    tokenizer.bos_token = None
    with pytest.raises(ValueError, match="bos_token=None and eos_token='</s>'"):
        build_llava(folder / "fgclip", folder / "lm", tokenizer)


def test_an_encoders_size_wins_over_its_processors(folder, tmp_path):
    """Published FG-CLIP large says 224 in its processor and has 336 in its weights."""
    encoder, _ = vision_tower(*FGCLIP.load(folder / "fgclip"))
    images = CLIPImageProcessorPil(size={"height": 32, "width": 32})
    model, processor = build_llava((encoder, images), folder / "lm")
    inputs = inputs_of(processor, question(picture()))
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    assert model(**inputs).logits.isfinite().all()
