"""Calls as users of CLIP, SigLIP 2 and the published FG-CLIP write them: they answer as there, or say what to do."""

from __future__ import annotations

import http.server
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer, pipeline
from transformers.image_utils import load_image

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor

TEXTS = ["a small green metal circle", "a dog runs over a field"]
LONG = " ".join(["a light red wooden star with a dark blue border at the top left of the scene"] * 8)


@dataclass
class User:
    """What a script of a user has at hand."""

    model: FGCLIPModel
    processor: FGCLIPProcessor
    image: Image.Image
    folder: Path

    @property
    def both(self) -> dict[str, Any]:
        return self.processor(text=TEXTS, images=self.image, return_tensors="pt", padding=True)

    @property
    def images(self) -> torch.Tensor:
        return self.model.get_image_features(self.processor(images=self.image)["pixel_values"])

    @property
    def texts(self) -> torch.Tensor:
        return self.model.get_text_features(self.processor(text=TEXTS)["input_ids"])

    @property
    def long(self) -> torch.Tensor:
        return self.model.get_text_features(**self.processor(text=LONG, long_text=True))


@pytest.fixture
def user(tiny_model, processor, tmp_path) -> User:
    image = Image.effect_mandelbrot((100, 80), (-2, -1, 1, 1), 30).convert("RGB")
    image.save(tmp_path / "photo.png")
    tiny_model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return User(tiny_model, processor, image, tmp_path)


def plain_array(user: User) -> torch.Tensor:
    return user.processor.image_processor(user.image, return_tensors="pt")["pixel_values"]


def normalized(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features, dim=-1)


# CLIP's model card and documentation ---------------------------------------------------------------------------------


def clip_logits(u):
    output = u.model(**u.both)
    assert_close(output.logits_per_image.softmax(dim=1).sum(), torch.tensor(1.0))
    return output.logits_per_image, normalized(u.images) @ normalized(u.texts).T * u.model.logit_scale.exp()


def clip_max_length(u):
    inputs = u.processor(text=TEXTS, return_tensors="pt", padding="max_length", max_length=77, truncation=True)
    assert inputs.input_ids.shape == (2, 77)
    return u.model.get_text_features(**inputs), u.texts


def clip_image_features(u):
    inputs = u.processor(images=u.image, return_tensors="pt")
    return u.model.get_image_features(inputs.pixel_values), u.images


def clip_features_of_everything(u):
    return torch.cat([u.model.get_image_features(**u.both), u.model.get_text_features(**u.both)]), torch.cat(
        [u.images, u.texts]
    )


def clip_pooler_output(u):
    image = u.model.get_image_features(**u.both, return_dict=True).pooler_output
    text = u.model.get_text_features(**u.both, return_dict=True).pooler_output
    return torch.cat([image, text]), torch.cat([u.images, u.texts])


def clip_hidden_states_of_parts(u):
    output = u.model(**u.both)
    assert output.vision_model_output.last_hidden_state.shape == (1, 17, 48)
    pooled = u.model.text_projection(output.text_model_output.pooler_output)
    return torch.cat([u.model.visual_projection(output.vision_model_output.pooler_output), pooled]), torch.cat(
        [u.images, u.texts]
    )


def clip_output_hidden_states(u):
    output = u.model(**u.both, output_hidden_states=True)
    states = output.vision_model_output.hidden_states
    assert (len(states), len(output.text_model_output.hidden_states)) == (4, 3)
    return states[-2], u.model.vision_model.trunk(u.both["pixel_values"])


def clip_output_attentions(u):
    expected = u.model(**u.both).logits_per_text
    u.model.set_attn_implementation("eager")
    output = u.model(**u.both, output_attentions=True)
    weights = output.vision_model_output.attentions
    assert (len(weights), weights[0].shape, len(output.text_model_output.attentions)) == (3, (1, 4, 17, 17), 2)
    assert_close(weights[0].sum(-1), torch.ones(1, 4, 17))
    return output.logits_per_text, expected


def clip_attentions_of_one_part(u):
    u.model.set_attn_implementation("eager")
    output = u.model.get_image_features(**u.both, output_attentions=True, output_hidden_states=True)
    assert (len(output.attentions), len(output.hidden_states)) == (3, 4)
    return output.pooler_output, u.images


def clip_tuple(u):
    values = u.model(**u.both, return_dict=False)
    logits, _, texts, images, text_output, vision_output = values[:6]
    assert isinstance(text_output, tuple)
    assert vision_output[0].shape == (1, 17, 48)
    return logits, images @ texts.T * u.model.logit_scale.exp()


def clip_loss(u):
    inputs = u.processor(text=TEXTS, images=[u.image, u.image.rotate(90)], return_tensors="pt", padding=True)
    output = u.model(**inputs, return_loss=True)
    target = torch.arange(2)
    losses = [torch.nn.functional.cross_entropy(x, target) for x in (output.logits_per_image, output.logits_per_text)]
    return output.loss, sum(losses) / 2


def clip_other_resolution(u):
    pixels = u.processor(images=u.image, size={"height": 96, "width": 96})["pixel_values"]
    output = u.model.get_image_features(pixels, interpolate_pos_encoding=True)
    return output, u.model.get_image_features(pixel_values=pixels)


def clip_without_interpolation(u):
    u.model.get_image_features(torch.randn(1, 3, 96, 96), interpolate_pos_encoding=False)


def clip_encoders(u):
    pooled = u.model.vision_model(pixel_values=u.both["pixel_values"]).pooler_output
    return u.model.visual_projection(pooled), u.images


def clip_text_encoder(u):
    inputs = u.processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    return u.model.text_projection(u.model.text_model(**inputs).pooler_output), u.texts


def clip_tokenizer(u):
    inputs = u.processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert "attention_mask" in inputs
    return u.model.get_text_features(**inputs), u.texts


def clip_attention_mask(u):
    inputs = u.processor(text=TEXTS, return_attention_mask=True)
    assert inputs["attention_mask"].shape == inputs["input_ids"].shape
    return u.model.get_text_features(**inputs), u.texts


def clip_to_device(u):
    inputs = u.processor(text=TEXTS, images=u.image, return_tensors="pt").to("cpu", torch.float32)
    return u.model(**inputs).image_embeds, normalized(u.images)


def clip_decode(u):
    ids = u.processor(text=TEXTS)["input_ids"]
    return u.processor.batch_decode(ids, skip_special_tokens=True), TEXTS


def clip_old_order(u):
    u.processor(TEXTS, u.image)


def clip_text_as_image(u):
    u.processor("a photo of a cat")


def clip_path(u):
    return u.processor(images=str(u.folder / "photo.png"))["pixel_values"], plain_array(u)


def clip_load_image(u):
    image = load_image(str(u.folder / "photo.png"))
    return u.processor(images=[image, u.folder / "photo.png"])["pixel_values"], plain_array(u).repeat(2, 1, 1, 1)


def clip_url(u):
    handler = lambda *args: http.server.SimpleHTTPRequestHandler(*args, directory=str(u.folder))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pixels = u.processor(images=f"http://127.0.0.1:{server.server_port}/photo.png")["pixel_values"]
        with pytest.raises(ValueError, match="404"):
            u.processor(images=f"http://127.0.0.1:{server.server_port}/none.png")
        server.shutdown()
    return pixels, plain_array(u)


def clip_arrays(u):
    array = np.asarray(u.image)
    tensors = torch.from_numpy(array.copy()).permute(2, 0, 1)
    batch = u.processor(images=[array, tensors])["pixel_values"]
    return batch, plain_array(u).repeat(2, 1, 1, 1)


def clip_to_tensor(u):
    """torchvision's ToTensor gives 0 to 1."""
    tensors = torch.from_numpy(np.asarray(u.image).copy()).permute(2, 0, 1) / 255
    return u.processor(images=tensors)["pixel_values"], plain_array(u)


def clip_to_tensor_unscaled(u):
    tensors = torch.from_numpy(np.asarray(u.image).copy()).permute(2, 0, 1) / 255
    return u.processor(images=tensors, do_rescale=False)["pixel_values"], plain_array(u)


def clip_numpy(u):
    inputs = u.processor(text=TEXTS, images=u.image, return_tensors="np")
    assert isinstance(inputs["input_ids"], np.ndarray)
    return torch.from_numpy(inputs["pixel_values"]), plain_array(u)


def clip_lists(u):
    inputs = u.processor(text=TEXTS, images=u.image, return_tensors=None, padding=False)
    assert [len(ids) for ids in inputs["input_ids"]] == [len(ids) for ids in u.processor.encode_texts(TEXTS)]
    return torch.tensor(np.stack(inputs["pixel_values"])), plain_array(u)


def clip_too_long(u):
    u.model.get_text_features(**u.processor(text=LONG, truncation=False))


# SigLIP 2's model card ------------------------------------------------------------------------------------------------


def siglip_padding(u):
    inputs = u.processor(text=TEXTS, images=[u.image], padding="max_length", max_length=64, return_tensors="pt")
    assert inputs["input_ids"].shape == (2, 64)
    return torch.sigmoid(u.model(**inputs).logits_per_image), torch.sigmoid(u.model(**u.both).logits_per_image)


def siglip_naflex(u):
    u.processor(images=u.image, max_num_patches=256, return_tensors="pt")


def siglip_pipeline(u):
    """With labels of more than 77 tokens, too."""
    classify = pipeline("zero-shot-image-classification", model=str(u.folder / "model"))
    found = classify(u.image, candidate_labels=[*TEXTS, LONG], hypothesis_template="{}")
    scores = {entry["label"]: entry["score"] for entry in found}
    text = normalized(torch.cat([u.texts, u.long]))
    expected = (normalized(u.images) @ text.T * u.model.logit_scale.exp()).softmax(-1)[0]
    return torch.tensor([scores[label] for label in (*TEXTS, LONG)]), expected


# The published FG-CLIP's README ---------------------------------------------------------------------------------------


def published_loading(u):
    model = AutoModelForCausalLM.from_pretrained(u.folder / "model", trust_remote_code=True).eval()
    processor = AutoProcessor.from_pretrained(u.folder / "model", trust_remote_code=True)
    pixels = processor.image_processor.preprocess(u.image, return_tensors="pt")["pixel_values"]
    return model.get_image_features(pixels), u.images


def published_short_text(u):
    tokenizer = AutoTokenizer.from_pretrained(u.folder / "model")
    encoded = tokenizer(TEXTS, max_length=77, padding="max_length", truncation=True).input_ids
    return u.model.get_text_features(torch.tensor(encoded, dtype=torch.long), walk_short_pos=True), u.texts


def published_long_text(u):
    tokenizer = AutoTokenizer.from_pretrained(u.folder / "model")
    encoded = tokenizer([LONG], max_length=248, padding="max_length", truncation=True).input_ids
    return u.model.get_text_features(torch.tensor(encoded, dtype=torch.long), walk_short_pos=False), u.long


def published_dense(u):
    pixels = u.processor(images=u.image)["pixel_values"]
    dense = u.model.get_image_dense_features(pixel_values=pixels)
    similarity = normalized(dense).squeeze() @ torch.nn.functional.normalize(u.texts[0], dim=-1)
    assert similarity.reshape(4, 4).shape == (4, 4)
    boxes = u.model.get_image_box_roi_features(pixel_values=pixels, box_info=[torch.tensor([[0.0, 0.0, 2.0, 4.0]])])
    return boxes, u.model.get_region_features(pixels, torch.tensor([[[0.0, 0.0, 0.5, 1.0]]]))[0]


ANSWERED = [
    call
    for name, call in sorted(globals().items())
    if name.startswith(("clip_", "siglip_", "published_"))
    and name
    not in {"clip_without_interpolation", "clip_old_order", "clip_text_as_image", "clip_too_long", "siglip_naflex"}
]
REFUSED = {
    clip_without_interpolation: "Input image size",
    clip_old_order: r"processor\(text=…, images=…\)",
    clip_text_as_image: r"processor\(text=…\)",
    clip_too_long: "long_text=True",
    siglip_naflex: "max_num_patches",
}


def test_there_are_thirty():
    assert len(ANSWERED) + len(REFUSED) >= 30


@torch.no_grad()
@pytest.mark.parametrize("call", ANSWERED, ids=lambda call: call.__name__)
def test_answers_as_there(call, user):
    found, expected = call(user)
    if isinstance(found, torch.Tensor):
        assert_close(found, expected, rtol=1e-4, atol=1e-5)
    else:
        assert found == expected


@pytest.mark.parametrize("call", REFUSED, ids=lambda call: call.__name__)
def test_says_what_to_do(call, user):
    with pytest.raises(ValueError, match=REFUSED[call]):
        call(user)
