import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoProcessor, CLIPImageProcessorPil

from modeling_fgclip import FGCLIPProcessor
from tests.conftest import FIXTURES


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
        ({"text": "a", "return_tensors": "np"}, "'pt'"),
    ],
)
def test_bad_input_is_refused(processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        processor(**arguments)
