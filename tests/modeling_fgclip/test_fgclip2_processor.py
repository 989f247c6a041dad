import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers import AutoProcessor, CLIPImageProcessorPil

from modeling_fgclip import FGCLIP2ImageProcessor, FGCLIP2Processor


def image(width: int, height: int, color: str = "red") -> Image.Image:
    return Image.new("RGB", (width, height), color)


def test_budget_is_the_images_own(fgclip2_processor):
    """16, 24 or 36 patches of 16 x 16 pixels, whatever lies beside it; padding up to the largest."""
    small, middle, large = image(40, 30), image(90, 64), image(300, 300)
    for picture, budget in ((small, 16), (middle, 24), (large, 36)):
        alone = fgclip2_processor(images=picture)
        assert alone["pixel_values"].shape == (1, budget, 768)
        beside = fgclip2_processor(images=[large, picture])
        assert torch.equal(beside["spatial_shapes"][1], alone["spatial_shapes"][0])
        assert torch.equal(beside["pixel_values"][1, :budget], alone["pixel_values"][0])
        assert not beside["pixel_values"][1, budget:].any()
        assert int(beside["pixel_attention_mask"][1].sum()) == alone["spatial_shapes"].prod()


def test_a_given_budget_is_obeyed(fgclip2_processor):
    assert fgclip2_processor(images=image(300, 300), max_num_patches=9)["pixel_values"].shape[1] == 9
    assert fgclip2_processor(images=image(9, 9), images_kwargs={"max_num_patches": 49})["pixel_values"].shape[1] == 49
    fixed = FGCLIP2Processor(FGCLIP2ImageProcessor(max_num_patches=25), fgclip2_processor.tokenizer)
    assert fixed(images=[image(300, 20), image(9, 9)])["pixel_values"].shape == (2, 25, 768)
    assert fixed(images=image(300, 20), max_num_patches=4)["pixel_values"].shape[1] == 4


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1"])
def test_every_mode_is_read_as_rgb(fgclip2_processor, mode):
    picture = Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 40).convert(mode)
    expected = fgclip2_processor(images=picture.convert("RGB"))["pixel_values"]
    assert_close(fgclip2_processor(images=picture)["pixel_values"], expected)


def test_texts(fgclip2_processor):
    words = "dog " * 220
    short, long = fgclip2_processor(text=words), fgclip2_processor(text=[words, "A Dog"], long_text=True)
    box = fgclip2_processor(text="a dog", region_text=True)
    assert short["input_ids"].shape == box["input_ids"].shape == (1, 64)
    assert long["input_ids"].shape == (2, 196)
    assert (short.get("walk_type"), box["walk_type"], long["walk_type"]) == (None, "box", "long")
    # Lower case, an end and zeros; a cut text ends as well.
    row = long["input_ids"][1].tolist()
    assert row == fgclip2_processor(text="a dog", long_text=True)["input_ids"][0].tolist()
    assert row[row.index(1) :] == [1, *[0] * (195 - row.index(1))]
    assert short["input_ids"][0, -1] == 1
    assert fgclip2_processor(text=["a dog", "dog"], padding=True)["input_ids"].shape[1] < 10
    assert fgclip2_processor(text="一只狗在草地上跑")["input_ids"].ne(0).sum() > 2


def test_boxes(fgclip2_processor):
    batch = fgclip2_processor(images=[image(100, 50), image(20, 40)], boxes=[[[10, 10, 60, 50]], []])
    assert_close(batch["boxes"], torch.tensor([[[0.1, 0.2, 0.6, 1.0]], [[0, 0, 0, 0]]]))
    assert batch["box_mask"].tolist() == [[True], [False]]


def test_saved_and_loaded_by_auto_processor(fgclip2_processor, tmp_path):
    fgclip2_processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, FGCLIP2Processor)
    assert (loaded.image_processor.patch_budgets, loaded.short_text_length, loaded.long_text_length) == (
        [16, 24, 36],
        64,
        196,
    )
    arguments = {"images": image(30, 20, "blue"), "text": "a light red wooden Star"}
    for name, value in fgclip2_processor(**arguments).items():
        assert torch.equal(loaded(**arguments)[name], value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither images nor text"),
        ({"text": ""}, "at least one word"),
        ({"text": ["a dog", None]}, "text 1 of 2"),
        ({"text": "dog " * 400}, "long_text=True"),
        ({"text": "dog " * 1200, "long_text": True}, "Shorten"),
        ({"text": "a dog", "long_text": True, "region_text": True}, "one head"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]]}, "without images"),
        ({"images": image(9, 9), "boxes": [[0, 0, 10, 9]]}, "outside the image of 9 x 9"),
        ({"images": image(9, 9), "boxes": [[5, 0, 3, 9]]}, "inverted"),
        ({"images": [image(9, 9)], "boxes": [[], []]}, "2 images and 1 images"),
        ({"images": image(9, 9), "max_num_patches": 0}, "max_num_patches"),
        ({"text": "a", "return_tensors": "np"}, "'pt'"),
    ],
)
def test_bad_input_is_refused(fgclip2_processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        fgclip2_processor(**arguments)


def test_bad_settings_are_refused(fgclip2_processor):
    with pytest.raises(ValueError, match="patch_budgets"):
        FGCLIP2ImageProcessor(patch_budgets=[])
    with pytest.raises(ValueError, match="Siglip2ImageProcessor"):
        FGCLIP2Processor(CLIPImageProcessorPil(), fgclip2_processor.tokenizer)


def test_one_picture_one_tensor_whichever_way_it_comes(fgclip2_processor):
    """Transparency lies on white, and a phone's picture is turned, boxes and patch budget with it."""
    white = Image.new("RGB", (60, 40), "white")
    white.paste("red", (0, 0, 30, 40))
    alpha = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    alpha.paste((255, 0, 0, 255), (0, 0, 30, 40))
    phone = white.transpose(Image.Transpose.ROTATE_90)
    exif = phone.getexif()
    exif[0x0112] = 6
    phone.info["exif"] = exif.tobytes()
    expected = fgclip2_processor(images=white, boxes=[[0, 0, 30, 40]])
    for image in (alpha, phone):
        found = fgclip2_processor(images=image, boxes=[[0, 0, 30, 40]])
        for name, value in expected.items():
            assert torch.equal(found[name], value), name
        alone = fgclip2_processor.image_processor(image, return_tensors="pt")
        assert torch.equal(alone["pixel_values"], expected["pixel_values"])
