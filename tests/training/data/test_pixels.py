import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from modeling_fgclip import FGCLIPProcessor
from tests.conftest import make_processor
from tests.training.records import make_record
from training.data.collator import FGCLIPCollator
from training.data.pixels import normalized, squares

SETTINGS = {
    "as published": {},
    "other numbers": {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.7], "resample": 2},
    "another scale": {"rescale_factor": 1 / 127.5},
    "no normalization": {"do_normalize": False},
    "neither": {"do_normalize": False, "do_rescale": False},
}


def make_images() -> list[Image.Image]:
    """Smaller and larger than S, S itself, and other modes."""
    noise = np.random.default_rng(0).integers(0, 256, (97, 130, 4), dtype=np.uint8)
    whole = Image.fromarray(noise)
    levels = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3))
    return [whole, *(whole.convert(mode) for mode in ("RGB", "L", "P", "CMYK")), levels, levels.crop((0, 0, 9, 5))]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_pixels_normalized_on_the_device_are_the_processors_bit_for_bit(settings):
    size = {"height": 64, "width": 64}
    processor = FGCLIPProcessor(CLIPImageProcessorPil(size=size, **settings), make_processor().tokenizer)
    expected = processor(images=make_images())["pixel_values"]
    batch = squares(processor, make_images())
    assert batch["pixel_values"].dtype == torch.uint8
    assert torch.equal(normalized(batch), expected.float())


def test_images_of_one_size_that_are_not_to_be_resized():
    size = {"height": 48, "width": 48}
    processor = FGCLIPProcessor(CLIPImageProcessorPil(size=size, do_resize=False), make_processor().tokenizer)
    images = [make_record(number)["image"].crop((0, 0, 48, 48)) for number in range(2)]
    assert torch.equal(normalized(squares(processor, images)), processor(images=images)["pixel_values"])


def test_a_batch_carries_a_quarter_of_the_bytes(processor):
    records = [make_record(number, 2) for number in range(3)]
    batch = FGCLIPCollator(processor, crops=True)(records)
    images = processor(images=[record["image"] for record in records])["pixel_values"]
    assert batch["pixel_values"].nbytes == images.nbytes / 4
    assert torch.equal(normalized(batch), images)
    assert normalized(batch, "crops").shape == (6, 3, 64, 64)
    assert torch.equal(normalized({"pixel_values": images}), images)


def test_no_crops(processor):
    batch = FGCLIPCollator(processor, crops=True)([make_record(0)])
    assert normalized(batch, "crops").shape == (0, 3, 64, 64)
