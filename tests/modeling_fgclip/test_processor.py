import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoProcessor, AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

from eval.adapters import CLIPAdapter
from modeling_fgclip import FGCLIPProcessor, pack_texts
from tests.conftest import FIXTURES, TINY


@pytest.mark.parametrize("name", ["wide", "tall"])
@pytest.mark.parametrize("size", [64, 224])
def test_published_preprocessing(processor, name, size):
    """Squash, no crop; the expected values are stored in float16."""
    expected = load_file(FIXTURES / "preprocess.safetensors")[f"{name}_{size}"].float()
    sized = FGCLIPProcessor(CLIPImageProcessorPil(size={"height": size, "width": size}), processor.tokenizer)
    pixel_values = sized(images=Image.open(FIXTURES / f"{name}.png"))["pixel_values"]
    assert_close(pixel_values[0], expected.reshape_as(pixel_values[0]), atol=2e-3, rtol=0)


def test_published_preprocessor_config_loads(processor, golden_checkpoint):
    """A CLIPFeatureExtractor that would crop becomes one that squashes, to the size it names."""
    published = CLIPImageProcessorPil.from_pretrained(golden_checkpoint)
    assert published.do_center_crop
    ours = FGCLIPProcessor(published, processor.tokenizer)
    assert (ours.image_size, ours.image_processor.do_center_crop) == (64, False)


def test_images_alone_in_lists_and_in_other_modes(processor):
    image = Image.new("RGB", (50, 30), "red")
    assert processor(images=image)["pixel_values"].shape == (1, 3, 64, 64)
    assert processor(images=[image, image.convert("L"), image.convert("P")])["pixel_values"].shape == (3, 3, 64, 64)


def test_one_picture_one_tensor_whichever_way_it_comes(processor):
    """Transparency lies on white, 16-bit grey is scaled, a phone's picture is turned, and its boxes are those of the upright one."""
    white = Image.new("RGB", (60, 40), "white")
    white.paste("red", (0, 0, 30, 40))
    alpha = white.convert("RGBA")
    alpha.putalpha(Image.fromarray((np.asarray(white)[..., 1] == 0).astype(np.uint8) * 255))
    ramp = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    phone = white.transpose(Image.Transpose.ROTATE_90)
    exif = phone.getexif()
    exif[0x0112] = 6
    phone.info["exif"] = exif.tobytes()
    expected = processor(images=white, boxes=[[0, 0, 30, 40]])
    for image in (alpha, phone):
        assert_close(processor(images=image)["pixel_values"], expected["pixel_values"], atol=0, rtol=0)
    assert_close(processor(images=phone, boxes=[[0, 0, 30, 40]])["boxes"], expected["boxes"], atol=0, rtol=0)
    grey = Image.fromarray((ramp >> 8).astype(np.uint8))
    assert_close(processor(images=Image.fromarray(ramp))["pixel_values"], processor(images=grey)["pixel_values"])


def test_short_and_long_text(processor):
    words = "dog " * 300
    short, long = processor(text=words), processor(text=[words, "a dog"], long_text=True)
    assert short["input_ids"].shape == (1, 77)
    assert long["input_ids"].shape == (2, 248)
    end = processor.tokenizer.eos_token_id
    assert short["input_ids"][0, -1] == long["input_ids"][0, -1] == end
    assert (long["input_ids"][1] == end).sum() > 200
    assert "walk_short_pos" not in short
    assert long["walk_short_pos"] is False


def test_padding_to_the_longest_or_to_the_limit(processor):
    assert processor(text=["a dog", "dog"])["input_ids"].shape[1] < 10
    assert processor(text="a dog", padding="max_length")["input_ids"].shape == (1, 77)
    assert processor(text="a dog", padding="max_length", long_text=True)["input_ids"].shape == (1, 248)


def test_boxes_in_pixels_and_normalized(processor):
    images = [Image.new("RGB", (100, 50)), Image.new("RGB", (20, 40))]
    batch = processor(images=images, boxes=[[[10, 10, 60, 50], [0, 0, 100, 50]], [[5, 10, 20, 20]]])
    expected = [[[0.1, 0.2, 0.6, 1.0], [0, 0, 1, 1]], [[0.25, 0.25, 1.0, 0.5], [0, 0, 0, 0]]]
    assert_close(batch["boxes"], torch.tensor(expected))
    assert batch["box_mask"].tolist() == [[True, True], [True, False]]
    normalized = processor(images=images[0], boxes=[[0.1, 0.2, 0.6, 1.0]], box_format="normalized")
    assert_close(normalized["boxes"], batch["boxes"][:1, :1])


def test_an_image_without_boxes(processor):
    batch = processor(images=[Image.new("RGB", (9, 9))] * 2, boxes=[[], [[0, 0, 9, 9]]])
    assert batch["box_mask"].tolist() == [[False], [True]]


def test_saved_and_loaded_by_auto_processor(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, FGCLIPProcessor)
    assert (loaded.image_size, loaded.short_text_length, loaded.long_text_length) == (64, 77, 248)
    image, text = Image.new("RGB", (30, 20), "blue"), "a light red wooden star"
    for name, value in processor(images=image, text=text).items():
        assert torch.equal(loaded(images=image, text=text)[name], value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither images nor text"),
        ({"text": ""}, "at least one word"),
        ({"text": ["a dog", None]}, "text 1 of 2"),
        ({"text": "dog " * 400}, "long_text=True"),
        ({"text": "dog " * 1200, "long_text": True}, "Shorten"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]]}, "without images"),
        ({"images": Image.new("RGB", (9, 9)), "boxes": [[0, 0, 10, 9]]}, "outside the image of 9 x 9"),
        ({"images": Image.new("RGB", (9, 9)), "boxes": [[5, 0, 3, 9]]}, "inverted"),
        ({"images": Image.new("RGB", (9, 9)), "boxes": [[0, 0, 3]]}, r"\(K, 4\)"),
        ({"images": [Image.new("RGB", (9, 9))], "boxes": [[], []]}, "2 images and 1 images"),
        ({"images": Image.new("RGB", (9, 9)), "boxes": [], "box_format": "xywh"}, "'pixel' or 'normalized'"),
        ({"text": "a", "return_tensors": "tf2"}, "TensorType"),
    ],
)
def test_bad_input_is_refused(processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        processor(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": []}, "no text at all"),
        ({"text": 5}, "type int"),
        ({"text": b"a dog"}, "type bytes"),
        ({"text": [["a", "dog"]]}, "text 0 of 1"),
        ({"text": "a dog \ud83d"}, "lone surrogate, at 6"),
        ({"text": "a dog", "max_length": 100}, "long_text=True for up to 248"),
        ({"text": "a dog", "max_length": 0}, "max_length=0"),
        ({"text": "a dog", "truncation": "some"}, "truncation='some'"),
        ({"text": "a dog", "long_text": "yes"}, "'auto'"),
        ({"text": "a dog", "lang_text": True}, r"\['lang_text'\]"),
        ({"text": "a dog", "device": "the moon"}, "device='the moon'"),
        ({"images": []}, "no image at all"),
        ({"images": [None]}, "NoneType as image 0"),
        ({"images": "no such file"}, "neither a file nor a URL"),
        ({"images": "data:image/png;base64,?"}, "damaged"),
        ({"images": torch.randn(3, 9, 9)}, "pixel_values, without the processor"),
        ({"images": torch.full((3, 9, 9), torch.nan)}, "nan"),
        ({"images": Image.new("RGB", (9, 9)), "do_center_crop": True}, "do_center_crop"),
    ],
)
def test_wrong_types_and_values_are_refused(processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        processor(**arguments)


def test_a_text_that_is_cut_is_told(processor):
    with pytest.warns(UserWarning, match=r"1 of 2 texts are longer than 77 tokens \(the longest has 102\).*long_text"):
        processor(text=["dog " * 100, "a dog"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor(text="dog " * 100, long_text=True)
        processor(text="dog " * 20, max_length=10)  # asked for
        processor.encode_texts(["dog " * 100])


def test_long_text_by_itself(processor, tiny_model):
    """ "auto" reads each text as its length asks for."""
    short, long = "a dog", "dog " * 100
    batch = processor(text=[short, long], long_text="auto")
    assert batch["walk_short_pos"].tolist() == [True, False]
    features = tiny_model.get_text_features(**batch)
    assert_close(features[:1], tiny_model.get_text_features(**processor(text=short)), rtol=1e-4, atol=1e-5)
    assert_close(
        features[1:], tiny_model.get_text_features(**processor(text=long, long_text=True)), rtol=1e-4, atol=1e-5
    )
    assert_close(features, tiny_model.get_text_features(batch["input_ids"]), rtol=1e-4, atol=1e-5)
    assert processor(text=[short], long_text="auto")["input_ids"].shape == (1, 4)


@pytest.mark.parametrize("special", ["<|endoftext|>", "<|startoftext|>"])
def test_special_tokens_in_a_caption_are_words(processor, tiny_model, tmp_path, special):
    """One text has one embedding, however it is encoded, and the words behind the token count."""
    text = f"a red star{special} and a blue circle"
    with torch.no_grad():
        found = tiny_model.get_text_features(**processor(text=[text, "a red star"]))
        packed = tiny_model.get_packed_text_features(pack_texts(processor.encode_texts([text]), [False]))
    assert_close(packed[0], found[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    ids = processor(text=text)["input_ids"][0].tolist()
    assert [ids.count(token) for token in (processor.tokenizer.bos_token_id, processor.tokenizer.eos_token_id)] == [
        1,
        1,
    ]
    processor.save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path).tokenizer):
        assert loaded(text)["input_ids"] == ids
    assert (
        CLIPAdapter(CLIPModel(CLIPConfig(**TINY)), processor).tokenize([text], False)["input_ids"][0].tolist() == ids
    )


def test_floats_are_read_by_their_range(processor):
    """From 0 to 1 as ToTensor gives them, from 0 to 255, and as the bytes they were made of."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    expected = processor(images=Image.fromarray(pixels))["pixel_values"]
    for floats in (pixels / 255, (pixels / 255).astype(np.float32), pixels.astype(np.float32)):
        assert torch.equal(processor(images=floats)["pixel_values"], expected)
    half = torch.from_numpy(pixels / 255).permute(2, 0, 1).half()
    assert torch.equal(processor(images=half)["pixel_values"], expected)
    assert torch.equal(processor(images=[half, half])["pixel_values"], expected.repeat(2, 1, 1, 1))
