"""The detector against closed forms, torchvision's own operators and the model's region features."""

# ruff: noqa: I001
from __future__ import annotations

import tests.eval.detection.needs_torchvision  # noqa: F401

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from eval.adapters import adapter_for
from eval.detection.checkpoint import load_detector, save_detector
from eval.detection.config import DetectorConfig
from eval.detection.detector import OpenVocabularyDetector
from eval.detection.proposals import MatchWithFloor, StridedAnchors
from eval.detection.roi_heads import LevelPooling
from eval.detection.vocabulary import Vocabulary
from eval.embed import Embedder
from modeling_fgclip import FGCLIP2Model
from tests.conftest import make_tiny_fgclip2, make_tiny_model

SETTINGS = {
    "image_size": 64,
    "taps": [0, 1, 1, 2],
    "channels": 16,
    "norm": "group",
    "head_convs": 1,
    "rpn_samples": 16,
    "roi_samples": 16,
    "roi_base": 16,
    "score_threshold": 0.0,
}
NAMES = ["red star", "blue circle", "dog"]


def config(**changes: object) -> DetectorConfig:
    return DetectorConfig.from_dict({**SETTINGS, "taps": [0, 1, 2, 3], **changes})


@pytest.fixture(params=["fgclip", "fgclip2"])
def adapter(request, processor, fgclip2_processor):
    if request.param == "fgclip2":
        model, processor = make_tiny_fgclip2(fgclip2_processor), fgclip2_processor
        torch.nn.init.normal_(model.boxtext_head.weight, std=0.2)  # made as a copy of the head of short texts
    else:
        model = make_tiny_model(processor)
    vision = model.vision_model.encoder
    torch.manual_seed(1)
    while len(vision.layers) < 4:  # one for each tap
        vision.layers.append(type(vision.layers[0])(model.config.vision_config))
        for parameter in vision.layers[-1].parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return adapter_for(model.eval(), processor)


def make(adapter, **changes: object) -> OpenVocabularyDetector:
    torch.manual_seed(0)
    embedder = Embedder(adapter, distributed=False, progress=False)
    return OpenVocabularyDetector(adapter, Vocabulary.of(NAMES, embedder, NAMES[:2]), config(**changes))


def images(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, height, width, generator=generator) for width, height in sizes]


def targets(*boxes: list[list[float]]) -> list[dict[str, torch.Tensor]]:
    return [
        {"boxes": torch.tensor(one).reshape(-1, 4).float(), "labels": torch.ones(len(one), dtype=torch.long)}
        for one in boxes
    ]


def test_anchors_reach_the_last_cell_with_patches_of_14() -> None:
    """896 pixels, patch 14: strides 3.5 to 56. torchvision's own floor them, and its last center is 765."""
    anchors = StridedAnchors(14, DetectorConfig(image_size=896))
    sides = [256, 128, 64, 32, 16]
    maps = [torch.zeros(1, 1, side, side) for side in sides]
    (boxes,) = anchors(ImageList(torch.zeros(1, 3, 896, 896), [(896, 896)]), maps)
    assert len(boxes) == 3 * sum(side**2 for side in sides)
    start = 0
    for side, stride in zip(sides, (3.5, 7, 14, 28, 56), strict=True):
        level = boxes[start : start + 3 * side**2]
        start += len(level)
        centers = (level[:, :2] + level[:, 2:]) / 2
        assert_close(centers[-1], torch.full((2,), float((side - 1) * stride)))
        sizes = level[:3, 2:] - level[:3, :2]
        assert_close(sizes.prod(1), torch.full((3,), float((8 * stride) ** 2)))
        assert_close(sizes[:, 1] / sizes[:, 0], torch.tensor([0.5, 1.0, 2.0]))


def test_pooling_reaches_the_last_cell_with_patches_of_14() -> None:
    """On maps that hold the place of each cell in pixels, the mean over a box is its center."""
    pooling = LevelPooling(14, DetectorConfig(image_size=896))
    maps = []
    for stride, side in zip((3.5, 7, 14, 28), (256, 128, 64, 32), strict=True):
        place = (torch.arange(side) + 0.5) * stride
        maps.append(torch.stack(torch.meshgrid(place, place, indexing="xy"))[None])
    boxes = torch.tensor([[840.0, 850, 880, 890], [100, 700, 190, 800], [300, 310, 500, 520], [200, 150, 860, 850]])
    pooled = pooling(maps, [boxes])
    assert_close(pooled.mean((2, 3)), (boxes[:, :2] + boxes[:, 2:]) / 2, atol=1e-3, rtol=0)


def test_pooling_is_torchvisions_on_the_level_of_the_box() -> None:
    pooling = LevelPooling(16, DetectorConfig())
    maps = [torch.randn(2, 3, side, side) for side in (160, 80, 40, 20)]
    boxes = [torch.tensor([[10.0, 20, 50, 60], [0, 0, 639, 639]]), torch.tensor([[100.0, 100, 230, 240]])]
    expected = [
        roi_align(maps[level][image : image + 1], [box[None]], 7, scale, -1, True)
        for image, level, scale, box in (
            (0, 0, 1 / 4, boxes[0][0]),
            (0, 3, 1 / 32, boxes[0][1]),
            (1, 1, 1 / 8, boxes[1][0]),
        )
    ]
    assert_close(pooling(maps, boxes), torch.cat(expected))


def test_an_objects_best_anchor_counts_from_a_floor_on() -> None:
    overlap = torch.tensor([[0.8, 0.1, 0.4], [0.0, 0.25, 0.1], [0.0, 0.35, 0.32]])  # objects x anchors
    matched = MatchWithFloor(DetectorConfig())(overlap)
    # The second object's best, 0.25, is too little; the third's, 0.35, is enough though below 0.7.
    assert matched.tolist() == [0, 2, -2]


def test_what_is_found_does_not_depend_on_the_batch(adapter) -> None:
    detector = make(adapter).eval()
    wide, tall, small = images((90, 40), (30, 64), (17, 20))
    with torch.no_grad():
        alone, beside = detector([wide])[0], detector([tall, wide, small])[1]
    assert len(alone["boxes"]) == len(beside["boxes"]) > 0
    for name in ("boxes", "scores", "labels"):
        assert_close(alone[name], beside[name], atol=1e-4, rtol=1e-5)
    assert alone["boxes"].amax(0)[2] <= 90
    assert alone["boxes"].amax(0)[3] <= 40
    assert set(alone["labels"].tolist()) <= {1, 2, 3}


def test_the_encoder_never_changes(adapter) -> None:
    detector = make(adapter).train()
    before = {name: value.clone() for name, value in adapter.model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    losses = detector(images((64, 48), (64, 64)), targets([[5, 5, 30, 30]], []))
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_class", "loss_box"}
    sum(losses.values()).backward()
    optimizer.step()
    assert not adapter.model.training
    assert all(not p.requires_grad for p in adapter.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in adapter.model.state_dict().items())
    trained = [name for name, p in detector.named_parameters() if p.requires_grad]
    assert all(detector.get_parameter(name).grad is not None for name in trained)
    assert not any(name.startswith("backbone.encoder") for name in detector.trained_state())


def test_features_of_proposals_are_the_models_region_features(adapter) -> None:
    detector = make(adapter, clip_pooling="pool_first").eval()
    (image,) = images((64, 64))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in adapter.vision_layers()[4:])
    pixels = ((image - mean) / std)[None]
    boxes = torch.tensor([[3.0, 4, 40, 50], [10, 20, 64, 64], [0, 0, 64, 64]])
    _, dense = detector.backbone(pixels)
    classes = detector.roi_heads.classes
    inputs = adapter.inputs_of_pixels(pixels)
    expected = F.normalize(adapter.encode_regions(inputs, boxes[None] / 64)[0], dim=-1) @ classes.T * 75
    assert_close(detector.roi_heads._encoder_logits(dense, [boxes]), expected, atol=1e-4, rtol=1e-5)


def test_taps_are_the_hidden_states_behind_their_blocks(adapter) -> None:
    """On the grid of the square; the last one is what the final norm takes, of which the dense map is made."""
    pixels = torch.randn(2, 3, 64, 64)
    encoder = make(adapter).backbone.encoder
    taps, dense = encoder(pixels)
    assert [tuple(tap.shape) for tap in taps] == [(2, 48, 4, 4)] * 4
    seen = []
    layers = adapter.vision_layers()
    hooks = [block.register_forward_hook(lambda module, args, out: seen.append(out)) for block in layers.blocks]
    adapter.encode_dense(adapter.inputs_of_pixels(pixels))
    for hook in hooks:
        hook.remove()
    for tap, hidden in zip(taps[:3], seen, strict=False):
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        assert torch.equal(tap.flatten(2).transpose(1, 2), hidden[:, -16:])
    if isinstance(adapter.model, FGCLIP2Model):
        states = layers.final_norm(taps[3].flatten(2).transpose(1, 2))
        assert_close(adapter.model.dense_feature_head.dense(states).unflatten(1, (4, 4)), dense)


def test_fgclip2s_squares_are_what_its_processor_makes_of_them(fgclip2_processor) -> None:
    """A picture that already fills its budget: the processor only cuts and normalizes it."""
    adapter = adapter_for(make_tiny_fgclip2(fgclip2_processor), fgclip2_processor)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = fgclip2_processor(images=Image.fromarray(pixels), max_num_patches=16)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in adapter.vision_layers()[4:])
    image = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std
    inputs = adapter.inputs_of_pixels(image[None])
    assert_close(inputs["pixel_values"], expected["pixel_values"], atol=1e-6, rtol=0)
    assert inputs["spatial_shapes"].tolist() == expected["spatial_shapes"].tolist() == [[4, 4]]
    assert inputs["pixel_attention_mask"].all()


def test_class_names_are_read_by_the_head_of_regions(fgclip2_processor) -> None:
    model = make_tiny_fgclip2(fgclip2_processor)
    torch.nn.init.normal_(model.boxtext_head.weight, std=0.2)
    embedder = Embedder(adapter_for(model, fgclip2_processor), distributed=False, progress=False)
    background = Vocabulary.of(NAMES, embedder, NAMES[:2]).embeddings[0]
    text = fgclip2_processor(text="background", region_text=True)
    assert_close(background, F.normalize(model.get_text_features(**text)[0], dim=-1))


def test_normalizing_first_is_roi_align_of_the_normalized_map(adapter) -> None:
    detector = make(adapter).eval()
    _, dense = detector.backbone(torch.randn(1, 3, 64, 64))
    boxes = torch.tensor([[3.0, 4, 40, 50], [10, 20, 64, 64]])
    map_ = F.normalize(dense, dim=-1).permute(0, 3, 1, 2)
    pooled = roi_align(map_, [boxes], 1, dense.shape[1] / 64, -1, True).flatten(1)
    expected = F.normalize(pooled, dim=-1) @ detector.roi_heads.classes.T * 75
    assert_close(detector.roi_heads._encoder_logits(dense, [boxes]), expected, atol=1e-4, rtol=1e-5)


def test_losses_are_divided_by_proposals_not_by_weights(adapter) -> None:
    """A batch of background alone: 0.6 times its cross-entropy, where torch's weighted mean would forget the 0.6."""
    heads = make(adapter).roi_heads
    logits = torch.randn(6, 4)
    background = heads._losses(logits, torch.zeros(6, 4), torch.zeros(6, dtype=torch.long), torch.ones(6, 4))
    assert_close(background["loss_class"], 0.6 * -logits.log_softmax(-1)[:, 0].mean())
    assert background["loss_box"] == 0
    labels = torch.tensor([0, 2, 0, 1, 3, 0])
    mixed = heads._losses(logits, torch.zeros(6, 4), labels, torch.full((6, 4), 2.0))
    weights = torch.tensor([0.6, 1, 0.6, 1, 1, 0.6])
    assert_close(mixed["loss_class"], (weights * F.cross_entropy(logits, labels, reduction="none")).sum() / 6)
    assert_close(mixed["loss_box"], torch.tensor(3 * 4 * 2.0 / 6))


def test_another_list_of_classes_needs_no_training(adapter) -> None:
    detector = make(adapter).eval()
    embedder = Embedder(adapter, distributed=False, progress=False)
    (image,) = images((64, 64))
    with torch.no_grad():
        before = detector([image])[0]
        detector.roi_heads.vocabulary = Vocabulary.of(["cat"], embedder, NAMES[:2])
        after = detector([image])[0]
    assert set(before["labels"].tolist()) > {1}
    assert set(after["labels"].tolist()) == {1}


def test_a_saved_detector_is_the_same_and_knows_its_encoder(adapter, processor, tmp_path: Path) -> None:
    detector = make(adapter).eval()
    save_detector(detector, tmp_path, "checkpoint")
    size = (tmp_path / "detector.safetensors").stat().st_size
    assert size < 1.05 * 4 * sum(v.numel() for v in detector.trained_state().values()) + 50_000
    loaded = load_detector(tmp_path, NAMES, adapter)
    with torch.no_grad():
        first, second = (one(images((50, 40)))[0] for one in (detector, loaded))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert loaded.roi_heads.vocabulary.is_base.tolist() == [True, True, False]
    with torch.no_grad():
        adapter.vision_layers().final_norm.weight[0] += 1
    with pytest.raises(ValueError, match="another encoder"):
        load_detector(tmp_path, NAMES, adapter)
    with pytest.raises(ValueError, match="holds no detector"):
        load_detector(tmp_path / "nothing", NAMES, adapter)


def test_what_does_not_fit_is_refused(adapter, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="last tap must be the last block"):
        make(adapter, taps=[0, 1, 2, 5])
    with pytest.raises(ValueError, match="not a multiple of the patch"):
        make(adapter, image_size=70)
    detector = make(adapter)
    with pytest.raises(ValueError, match="do not belong to this detector"):
        make(adapter, channels=32).load_trained_state(detector.trained_state())
