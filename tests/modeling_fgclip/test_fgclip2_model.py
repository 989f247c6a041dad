import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers import Siglip2Config, Siglip2Model, SiglipConfig

from modeling_fgclip import FGCLIP2Config, FGCLIP2Model, FGCLIPModel, pack_full_texts
from modeling_fgclip.region_pooling import pool_ragged_regions, pool_regions
from modeling_fgclip.text_positions import stretch_positions
from tests.conftest import FIXTURES, TINY_FGCLIP2, make_tiny_fgclip2

SAME = {"rtol": 1e-5, "atol": 1e-6}


def picture(width: int, height: int) -> Image.Image:
    return Image.effect_mandelbrot((width, height), (-2, -1, 1, 1), 40).convert("RGB")


@pytest.fixture
def inputs(fgclip2_processor):
    """Grids of different sizes, smaller and larger than the position grid, with padding between them."""
    images = [picture(40, 30), picture(200, 60), picture(70, 110)]
    return fgclip2_processor(images=images, text=["a dog", "a small green metal circle"])


def images_of(inputs) -> dict[str, torch.Tensor]:
    return {name: inputs[name] for name in ("pixel_values", "pixel_attention_mask", "spatial_shapes")}


@pytest.fixture
def siglip2() -> Siglip2Model:
    config = {**TINY_FGCLIP2, "text_config": {**TINY_FGCLIP2["text_config"], "vocab_size": 300}}
    torch.manual_seed(1)
    return Siglip2Model(Siglip2Config(**config)).eval()


@torch.no_grad()
def test_forward(tiny_fgclip2, inputs):
    output = tiny_fgclip2(**inputs)
    image = torch.nn.functional.normalize(tiny_fgclip2.get_image_features(**images_of(inputs)), dim=-1)
    text = torch.nn.functional.normalize(tiny_fgclip2.get_text_features(inputs["input_ids"]), dim=-1)
    assert_close(output.logits_per_image, image @ text.T * 10 - 10)
    assert torch.equal(output.logits_per_text, output.logits_per_image.T)
    assert [scale.item() for scale in output.scales] == pytest.approx([10, 100, 100], rel=1e-4)
    assert tiny_fgclip2(**images_of(inputs)).text_embeds is None
    assert tiny_fgclip2(input_ids=inputs["input_ids"]).image_embeds is None


@torch.no_grad()
@pytest.mark.parametrize("walk_type", ["short", "box", "long"])
def test_text_does_not_depend_on_its_padding(tiny_fgclip2, fgclip2_processor, walk_type):
    """Alone or in a batch, without padding, padded to the longest or to the full, with or without a mask."""
    texts = ["a dog", "A dog runs over a field, a cat sleeps on a sofa", "一只狗在草地上跑"]
    kind = {"long": {"long_text": True}, "box": {"region_text": True}}.get(walk_type, {})
    full = fgclip2_processor(text=texts, **kind)["input_ids"]
    longest = fgclip2_processor(text=texts, padding=True, **kind)["input_ids"]
    assert (full.shape[1], longest.shape[1] < 40) == ({"long": 196}.get(walk_type, 64), True)
    expected = tiny_fgclip2.get_text_features(full, walk_type=walk_type)
    assert_close(tiny_fgclip2.get_text_features(longest, walk_type=walk_type), expected, **SAME)
    masked = tiny_fgclip2.get_text_features(longest, (longest != 0).long(), walk_type=walk_type)
    assert_close(masked, expected, **SAME)
    for text, features in zip(texts, expected, strict=True):
        alone = fgclip2_processor(text=text, padding=True, **kind)["input_ids"]
        assert (alone != 0).all()
        assert_close(tiny_fgclip2.get_text_features(alone, walk_type=walk_type)[0], features, **SAME)


@torch.no_grad()
def test_same_text_features_as_siglip2(siglip2):
    """Short text of a model made from SigLIP 2, which is given padding in full and no mask."""
    model = FGCLIP2Model.from_siglip2(siglip2).eval()
    ids = torch.zeros(2, 64, dtype=torch.long)
    ids[0, :5], ids[1, :9] = torch.arange(5, 10), torch.arange(20, 29)
    expected = siglip2.get_text_features(ids).pooler_output
    assert_close(model.get_text_features(ids[:, :9]), expected, **SAME)
    # The new heads start as copies, the long positions as the stretched ones.
    assert_close(model.get_text_features(ids[:, :9], walk_type="box"), expected, **SAME)
    assert torch.equal(model.longtext_head.weight, siglip2.text_model.head.weight)
    stretched = stretch_positions(siglip2.text_model.embeddings.position_embedding.weight)
    for table in (
        model.text_model.embeddings.position_embedding_ori,
        model.text_model.embeddings.position_embedding_res,
    ):
        assert torch.equal(table.weight, stretched)


@torch.no_grad()
def test_same_image_features_as_siglip2(siglip2, inputs):
    model = FGCLIP2Model.from_siglip2(siglip2).eval()
    images = images_of(inputs)
    assert_close(model.get_image_features(**images), siglip2.get_image_features(**images).pooler_output, **SAME)
    for name, tensor in model.dense_feature_head.state_dict().items():
        assert torch.equal(tensor, siglip2.vision_model.head.state_dict()[name])


@torch.no_grad()
def test_image_does_not_depend_on_its_batch(tiny_fgclip2, fgclip2_processor):
    small, large = picture(40, 30), picture(200, 160)
    box = torch.tensor([[0.1, 0.2, 0.7, 0.9]])
    alone = fgclip2_processor(images=small)
    beside = fgclip2_processor(images=[small, large])
    assert alone["pixel_values"].shape[1] < beside["pixel_values"].shape[1]
    assert torch.equal(alone["spatial_shapes"], beside["spatial_shapes"][:1])
    features = tiny_fgclip2.get_image_features(**alone)
    assert_close(tiny_fgclip2.get_image_features(**beside)[:1], features, rtol=1e-5, atol=1e-5)
    dense = tiny_fgclip2.get_image_dense_features(**alone)[0]
    assert dense.shape == (*alone["spatial_shapes"][0].tolist(), 48)
    assert_close(tiny_fgclip2.get_image_dense_features(**beside)[0], dense, rtol=1e-5, atol=1e-5)
    regions = tiny_fgclip2.get_region_features(**alone, boxes=[box])[0]
    nothing = torch.zeros(0, 4)
    found = tiny_fgclip2.get_region_features(**beside, boxes=[box, nothing])
    assert_close(found[0], regions, rtol=1e-5, atol=1e-5)
    assert found[1].shape == (0, 48)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("junk", [1e4, float("nan"), float("inf")])
def test_junk_in_padding_changes_nothing(tiny_fgclip2, inputs, implementation, junk):
    tiny_fgclip2.set_attn_implementation(implementation)
    boxes = torch.tensor([[[0.1, 0.2, 0.7, 0.9]]] * 3)
    expected = tiny_fgclip2(**images_of(inputs), boxes=boxes)
    padding = inputs["pixel_attention_mask"] == 0
    assert padding.any()
    inputs["pixel_values"][padding] = junk
    found = tiny_fgclip2(**images_of(inputs), boxes=boxes)
    assert torch.equal(found.image_embeds, expected.image_embeds)
    assert torch.equal(found.region_embeds, expected.region_embeds)


@torch.no_grad()
def test_attention_implementations_agree(tiny_fgclip2, inputs):
    expected = tiny_fgclip2(**inputs).logits_per_image
    tiny_fgclip2.set_attn_implementation("eager")
    assert_close(tiny_fgclip2(**inputs).logits_per_image, expected, rtol=1e-4, atol=1e-4)


# Not (3, 1): PyTorch's kernel for CPUs repeats the first row where a result has a single column.
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 2), (5, 9), (12, 10)])
def test_positions_are_torchs_antialiased_ones(tiny_fgclip2, size):
    embeddings = tiny_fgclip2.vision_model.embeddings
    grid = embeddings.position_embedding.weight.unflatten(0, (4, 4)).permute(2, 0, 1).unsqueeze(0)
    expected = torch.nn.functional.interpolate(grid, size, mode="bilinear", align_corners=False, antialias=True)
    found = embeddings.position_embeddings(torch.tensor([list(size), [2, 2]]), 150)
    assert_close(found[0, : size[0] * size[1]], expected[0].flatten(1).t(), rtol=1e-5, atol=1e-6)
    assert found.isfinite().all()


def test_regions_of_ragged_grids_are_roi_align():
    """Against pooling on each image's own map, with boxes from whole images to less than a patch."""
    shapes = torch.tensor([[3, 7], [6, 2], [1, 1], [5, 5]])
    features = torch.randn(4, 30, 6)
    mask = torch.arange(30) < shapes.prod(-1, keepdim=True)
    corners = torch.rand(4, 40, 2, 2).sort(dim=2).values
    corners[:, :10, 1] = corners[:, :10, 0] + 0.01 * torch.rand(4, 10, 2)
    boxes = corners.flatten(2)
    boxes[:, -1] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    boxes[:, -2] = 0
    found = pool_ragged_regions(features, boxes, shapes, mask)
    for image, (rows, columns) in enumerate(shapes.tolist()):
        grid = features[image, : rows * columns].view(1, rows, columns, 6)
        units = boxes[image : image + 1] * torch.tensor([columns, rows, columns, rows])
        assert_close(found[image], pool_regions(grid, units)[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_packed_texts_are_padded_ones(tiny_fgclip2, fgclip2_processor):
    texts = [("a dog", "short"), ("a cat", "box"), ("a dog", "box"), ("two objects", "long"), ("a dog", "short")]
    ids = fgclip2_processor.encode_texts([text for text, _ in texts])
    packed = pack_full_texts(ids, [kind for _, kind in texts], 64, 196, 0)
    assert packed["length_groups"] == [(2, 64), (1, 196)]
    features = tiny_fgclip2.get_packed_text_features(packed)
    for row, ((_, kind), feature) in enumerate(zip(texts, features, strict=True)):
        alone = tiny_fgclip2.get_text_features(torch.tensor([ids[row]]), walk_type=kind)[0]
        assert_close(feature, alone, **SAME)
    embeds = tiny_fgclip2(packed_texts=packed).text_embeds
    assert_close(embeds, torch.nn.functional.normalize(features, dim=-1))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_used_parameter(fgclip2_processor, inputs, checkpointing):
    model = make_tiny_fgclip2(fgclip2_processor).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    kinds = ["short", "box", "long"]
    packed = pack_full_texts(fgclip2_processor.encode_texts(["a dog", "a cat", "a bird"]), kinds, 64, 196, 0)
    boxes = torch.tensor([[[0.1, 0.2, 0.7, 0.9]]] * 3)
    output = model(**images_of(inputs), boxes=boxes, packed_texts=packed)
    weights = torch.randn(48)
    terms = [output.image_embeds, output.region_embeds, output.text_embeds]
    (sum((term @ weights).sum() for term in terms) + sum(output.scales) + output.bias).sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"dense_feature_head.probe"}


def test_from_a_saved_siglip2(siglip2, tmp_path):
    siglip2.save_pretrained(tmp_path)
    model = FGCLIP2Model.from_siglip2(str(tmp_path))
    assert torch.equal(model.boxtext_head.weight, siglip2.text_model.head.weight)
    assert model.config.text_config.longtext_len == 196


def test_fresh_weights_are_drawn_as_siglips(siglip2):
    """Code outside transformers is easily initialized with a plain Linear's rules instead of SigLIP's."""
    config = {**TINY_FGCLIP2, "text_config": {**TINY_FGCLIP2["text_config"], "vocab_size": 300}}
    model, expected = FGCLIP2Model(FGCLIP2Config(**config)), siglip2.state_dict()
    for name, value in model.state_dict().items():
        if name in expected and value.dim() == 2:
            assert value.std().item() == pytest.approx(expected[name].std().item(), rel=0.15), name
    assert (model.logit_scale.item(), model.logit_bias.item()) == pytest.approx((2.302585, -10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"walk_type": "medium"}, "walk_type='medium'"),
        ({"position_ids": torch.zeros(1, 5)}, "position_ids"),
        ({"input_ids": torch.full((1, 65), 7)}, "long_text=True"),
        ({"input_ids": torch.full((1, 197), 7), "walk_type": "long"}, "1 to 196 fit"),
        ({"input_ids": torch.full((1, 0), 7)}, "1 to 64 fit"),
        ({"input_ids": torch.tensor([[0, 0, 7, 1]])}, "padding_side"),
    ],
)
def test_bad_texts_are_refused(tiny_fgclip2, change, message):
    with pytest.raises(ValueError, match=message):
        tiny_fgclip2.get_text_features(**{"input_ids": torch.full((1, 5), 7), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spatial_shapes": None}, "without spatial_shapes"),
        ({"pixel_attention_mask": None}, "without pixel_attention_mask"),
        ({"spatial_shapes": torch.tensor([[0, 4], [4, 4], [4, 4]])}, r"spatial_shapes \[0, 4\] for image 0"),
        ({"spatial_shapes": torch.tensor([[99, 1], [4, 4], [4, 4]])}, "Rows times columns"),
        ({"spatial_shapes": torch.tensor([[4, 4]])}, r"\(N, 2\)"),
        ({"pixel_values": torch.zeros(3, 3, 64, 64)}, "FGCLIP2Processor"),
        ({"pixel_values": torch.zeros(3, 36, 588)}, "FGCLIP2Processor"),
    ],
)
def test_bad_images_are_refused(tiny_fgclip2, inputs, change, message):
    for call in (tiny_fgclip2.get_image_features, tiny_fgclip2.get_image_dense_feature, tiny_fgclip2):
        with pytest.raises(ValueError, match=message):
            call(**{**images_of(inputs), **change})


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0.5, 0.1, 0.2, 0.9]], "inverted"),
        ([[0.5, 0.1, 1.2, 0.9]], "outside"),
        ([[0.5, 0.1, float("nan"), 0.9]], "not finite"),
    ],
)
def test_bad_boxes_are_refused(tiny_fgclip2, inputs, boxes, message):
    good = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match=message):
        tiny_fgclip2.get_region_features(**images_of(inputs), boxes=[good, torch.tensor(boxes), good])
    infos = [[[x * 10 for x in box] for box in boxes], [], []]
    with pytest.raises(ValueError, match=message):
        tiny_fgclip2.get_image_region_features(**images_of(inputs), image_sizes=[(10, 10)] * 3, region_infos=infos)
    with pytest.raises(ValueError, match="2 images and 3 images"):
        tiny_fgclip2.get_region_features(**images_of(inputs), boxes=[good, good])


def test_other_families_are_refused(tiny_model, siglip2, tmp_path):
    tiny_model.save_pretrained(tmp_path / "fgclip")
    with pytest.raises(ValueError, match=r"`FGCLIPModel`"):
        FGCLIP2Model.from_pretrained(tmp_path / "fgclip")
    siglip2.save_pretrained(tmp_path / "siglip2")
    for folder in (FIXTURES / "tiny_fgclip2", tmp_path / "siglip2"):
        with pytest.raises(ValueError, match="FGCLIP2Model"):
            FGCLIPModel.from_pretrained(folder)
    with pytest.raises(ValueError, match="FGCLIPModel"):
        FGCLIP2Model.from_siglip2(tiny_model)


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="48 wide and image features 64"):
        FGCLIP2Config(**{**TINY_FGCLIP2, "vision_config": {**TINY_FGCLIP2["vision_config"], "hidden_size": 64}})
    for change in ({"keep_len": 64}, {"longtext_len": 100}, {"longtext_len": 20}):
        with pytest.raises(ValueError, match=r"keep_len"):
            FGCLIP2Config(text_config={**TINY_FGCLIP2["text_config"], **change})
    with pytest.raises(ValueError, match="square number"):
        FGCLIP2Config(**{**TINY_FGCLIP2, "vision_config": {**TINY_FGCLIP2["vision_config"], "num_patches": 15}})


def test_a_siglip_of_fixed_resolution_is_refused(tmp_path):
    SiglipConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="fixed resolution"):
        FGCLIP2Model.from_siglip2(str(tmp_path))
