"""Embeddings from a GPU, with loading processes beside it, are the CPU's."""

import numpy as np
import pytest
import torch
from PIL import Image

from eval.adapters import FGCLIPAdapter
from eval.adapters.fgclip2 import FGCLIP2Adapter
from eval.embed import Embedder
from eval.images import Boxes, MemoryImage
from tests.conftest import CAPTIONS

TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}


def embeddings(adapter, images, boxes, **settings) -> list[torch.Tensor]:
    embedder = Embedder(adapter, batch_size=4, progress=False, **settings)
    return [
        embedder.images(images)[0],
        embedder.regions(images, boxes)[0],
        embedder.texts(CAPTIONS * 2, "long"),
        embedder.texts([caption[:30] for caption in CAPTIONS], "short"),
    ]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["fgclip", "fgclip2"])
def test_embeddings_are_the_cpus(request, family, precision, device):
    names = {"fgclip": ("tiny_model", "processor"), "fgclip2": ("tiny_fgclip2", "fgclip2_processor")}[family]
    adapter = {"fgclip": FGCLIPAdapter, "fgclip2": FGCLIP2Adapter}[family](*map(request.getfixturevalue, names))
    random = np.random.default_rng(0)
    images = [
        MemoryImage(Image.fromarray(random.integers(0, 256, (50 + 7 * number, 90, 3), np.uint8)))
        for number in range(10)
    ]
    boxes = [
        Boxes(np.array([[3, 5, 40, 30]] * (number % 3), np.float32).reshape(-1, 4), image.open().size)
        for number, image in enumerate(images)
    ]
    expected = embeddings(adapter, images, boxes, device="cpu")
    given = embeddings(adapter, images, boxes, device=device, precision=precision, num_workers=2)
    for one, other in zip(given, expected, strict=True):
        assert (one - other).norm(dim=-1).max() < TOLERANCE[precision]
