import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers import CLIPConfig, CLIPModel

from modeling_fgclip import FGCLIPConfig, FGCLIPModel
from modeling_fgclip.export_encoders import encoders
from modeling_fgclip.text_positions import stretch_positions
from tests.conftest import TINY


@pytest.fixture
def inputs(processor):
    images = [Image.new("RGB", (90, 60), color) for color in ("red", "blue", "white")]
    return processor(images=images, text=["a dog", "a small green metal circle"])


@pytest.fixture
def clip() -> CLIPModel:
    text = {**TINY["text_config"], "vocab_size": 500, "bos_token_id": 498, "eos_token_id": 499}
    return CLIPModel(CLIPConfig(**{**TINY, "text_config": text})).eval()


def test_forward(tiny_model, inputs):
    output = tiny_model(**inputs)
    image = torch.nn.functional.normalize(tiny_model.get_image_features(inputs["pixel_values"]), dim=-1)
    text = torch.nn.functional.normalize(tiny_model.get_text_features(inputs["input_ids"]), dim=-1)
    assert_close(output.logits_per_image, image @ text.T / 0.07, rtol=1e-3, atol=1e-3)
    assert torch.equal(output.logits_per_text, output.logits_per_image.T)
    assert output.loss is None


def test_regions_from_the_patches_under_boxes_are_those_of_the_whole_map(tiny_model):
    """Values and gradients, for boxes here and there, everywhere, one patch, and none."""
    model = tiny_model.double()
    pixels = torch.randn(12, 3, 64, 64, dtype=torch.float64)
    corners = torch.rand(12, 3, 2, 2).sort(dim=2).values.flatten(2)
    few, everywhere = corners.clone(), corners.clone()
    few[1:] = 0
    everywhere[:, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    one_patch = torch.zeros(12, 1, 4)
    one_patch[5, 0] = torch.tensor([0.3, 0.3, 0.31, 0.31])
    for boxes in (corners, few, everywhere, one_patch, torch.zeros(12, 2, 4), torch.zeros(12, 0, 4)):
        trunk = model.vision_model.trunk(pixels).detach().requires_grad_()
        gradients = []
        pooled = [model._pool_regions(pixels, trunk, boxes, only_seen) for only_seen in (False, True)]
        for regions in pooled:
            gradients.append(torch.autograd.grad(regions.square().sum(), trunk, materialize_grads=True)[0])
        whole, regions = pooled
        assert_close(regions, whole, rtol=1e-12, atol=1e-12)
        assert_close(*gradients, rtol=1e-12, atol=1e-12)
    assert whole.shape == (12, 0, 24)


def test_forward_of_one_modality(tiny_model, inputs):
    output = tiny_model(pixel_values=inputs["pixel_values"])
    assert output.text_embeds is None
    assert output.logits_per_image is None
    assert output[0].shape == (3, 24)
    assert tiny_model(input_ids=inputs["input_ids"]).image_embeds is None


def test_forward_with_boxes(tiny_model, inputs):
    boxes = torch.rand(3, 5, 2, 2).sort(dim=2).values.flatten(2)
    mask = torch.arange(5) < torch.tensor([5, 0, 2]).unsqueeze(1)
    output = tiny_model(pixel_values=inputs["pixel_values"], boxes=boxes, box_mask=mask)
    regions = tiny_model.get_region_features(inputs["pixel_values"], boxes, mask)
    assert_close(output.region_embeds, torch.nn.functional.normalize(regions, dim=-1))
    assert_close(output.region_embeds.norm(dim=-1), mask.float())


def test_return_loss_is_clips(tiny_model, inputs):
    inputs["pixel_values"] = inputs["pixel_values"][:2]
    output = tiny_model(**inputs, return_loss=True)
    target = torch.arange(2)
    expected = sum(
        torch.nn.functional.cross_entropy(logits, target)
        for logits in (output.logits_per_image, output.logits_per_text)
    )
    assert_close(output.loss, expected / 2)


def test_same_as_clip_on_short_text(clip):
    """Made from a CLIP, it gives that CLIP's features; what CLIP lacks is stretched and copied."""
    with torch.no_grad():
        clip.logit_scale.fill_(3.3)
    model = FGCLIPModel.from_clip(clip).eval()
    input_ids = torch.tensor([[498, 5, 6, 499, 499, 499], [498, 3, 7, 8, 9, 499]])
    pixel_values = torch.randn(2, 3, 64, 64)
    assert_close(model.get_text_features(input_ids), clip.get_text_features(input_ids).pooler_output)
    assert_close(model.get_image_features(pixel_values), clip.get_image_features(pixel_values).pooler_output)
    embeddings = model.text_model.embeddings
    stretched = stretch_positions(clip.text_model.embeddings.position_embedding.weight)
    assert torch.equal(embeddings.position_embedding_ori.weight, stretched)
    assert torch.equal(embeddings.position_embedding_res.weight, stretched)
    assert torch.equal(model.text_filip_projection.weight, clip.text_projection.weight)
    scales = [model.logit_scale, model.logit_scale_finegraind, model.logit_scale_hardneg]
    assert [scale.item() for scale in scales] == pytest.approx([3.3] * 3)


def test_from_a_saved_clip(clip, tmp_path):
    clip.save_pretrained(tmp_path)
    model = FGCLIPModel.from_clip(str(tmp_path))
    assert model.config.text_config.max_long_position_embeddings == 248
    assert torch.equal(model.text_filip_projection.weight, clip.text_projection.weight)


def test_fresh_weights_are_drawn_as_clips(clip):
    """Code outside transformers is easily initialized with a plain Linear's rules instead of CLIP's."""
    model = FGCLIPModel(FGCLIPConfig.from_dict({**clip.config.to_dict(), "model_type": "fgclip"}))
    expected = clip.state_dict()
    for name, value in model.state_dict().items():
        if name in expected and value.dim() == 2:
            assert value.std().item() == pytest.approx(expected[name].std().item(), rel=0.15), name


def test_non_square_and_other_resolutions(tiny_model):
    pixel_values = torch.randn(2, 3, 96, 48)
    assert tiny_model.get_image_features(pixel_values).shape == (2, 24)
    assert tiny_model.get_image_dense_features(pixel_values).shape == (2, 6 * 3, 24)
    # The left half of the image, in both units.
    normalized = tiny_model.get_region_features(pixel_values, torch.tensor([[[0.0, 0.0, 0.5, 1.0]]] * 2))
    pixels = tiny_model.get_region_features(
        pixel_values, torch.tensor([[[0.0, 0.0, 24.0, 96.0]]] * 2), normalized=False
    )
    assert_close(normalized, pixels)


def test_padding_is_trimmed_and_changes_nothing(tiny_model, processor):
    short = processor(text=["a dog", "a cat"])["input_ids"]
    padded = processor(text=["a dog", "a cat"], padding="max_length")["input_ids"]
    assert padded.shape == (2, 77)
    assert torch.equal(tiny_model.get_text_features(padded), tiny_model.get_text_features(short))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_attention_implementations_agree(tiny_model, inputs, implementation):
    expected = tiny_model(**inputs).logits_per_image
    tiny_model.set_attn_implementation(implementation)
    assert_close(tiny_model(**inputs).logits_per_image, expected, rtol=1e-4, atol=1e-4)


def test_gradient_checkpointing_gives_the_same_gradients(tiny_model, inputs):
    gradients = []
    for checkpointing in (False, True):
        tiny_model.train()
        if checkpointing:
            tiny_model.gradient_checkpointing_enable()
        tiny_model.zero_grad()
        tiny_model(**inputs).logits_per_image.sum().backward()
        gradients.append([p.grad.clone() for p in tiny_model.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert_close(checkpointed, plain)


def test_compiles_without_graph_breaks(tiny_model, inputs, processor):
    tiny_model.eval()
    input_ids = processor(text=["a dog"], padding="max_length")["input_ids"]
    boxes = torch.tensor([[[0.1, 0.1, 0.6, 0.9]]] * 3)
    calls = {
        "get_image_features": (inputs["pixel_values"],),
        "get_image_dense_features": (inputs["pixel_values"],),
        "get_region_features": (inputs["pixel_values"], boxes),
        "get_text_features": (input_ids,),
    }
    for method, arguments in calls.items():
        compiled = torch.compile(getattr(tiny_model, method), backend="eager", fullgraph=True)
        assert_close(compiled(*arguments), getattr(tiny_model, method)(*arguments), rtol=1e-4, atol=1e-5)


def compiled_text_encoder(model, how):
    if how == "compile":
        return torch.compile(model.get_text_features, backend="eager", fullgraph=True)
    encoder = next(encoder for encoder in encoders(model) if encoder.name == "text")
    program = torch.export.export(
        encoder.module, (), encoder.inputs, dynamic_shapes=encoder.dynamic_shapes, strict=False
    ).module()

    def features(input_ids, walk_short_pos):
        is_short = torch.as_tensor(walk_short_pos).expand(len(input_ids))
        return program(input_ids=input_ids, long_text=~is_short)

    return features


@torch.no_grad()
@pytest.mark.parametrize("how", ["compile", "export"])
def test_compiled_texts_without_an_end_and_too_long_ones(tiny_model, processor, how):
    """A graph cannot refuse: a text without its end gets one, one over its positions is cut as the processor cuts."""
    encode = compiled_text_encoder(tiny_model, how)
    normalize = torch.nn.functional.normalize
    texts = ["a red star", "a blue circle and a green square"]
    for long_text in (False, True):
        whole = processor.encode_texts(texts, long_text)
        for ids in whole:
            found = encode(torch.tensor([ids[:-1]]), walk_short_pos=not long_text)
            expected = tiny_model.get_text_features(torch.tensor([ids]), walk_short_pos=not long_text)
            assert_close(normalize(found), normalize(expected), rtol=1e-4, atol=1e-5)
    words = "dog star circle " * 60  # 182 tokens
    found = encode(processor(text=[words], long_text=True)["input_ids"], walk_short_pos=True)
    expected = tiny_model.get_text_features(torch.tensor(processor.encode_texts([words])), walk_short_pos=True)
    assert_close(normalize(found), normalize(expected), rtol=1e-4, atol=1e-5)
    without_end = torch.tensor(processor.encode_texts([words + words], True))
    without_end[:, -1] = 5  # 248 tokens
    cut = without_end.clone()
    cut[:, -1] = processor.tokenizer.eos_token_id
    expected = tiny_model.get_text_features(cut, walk_short_pos=False)
    found = encode(without_end, walk_short_pos=False)
    assert_close(normalize(found), normalize(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([0.5, 0.1, 0.2, 0.9], "inverted"),
        ([0.2, 0.1, 0.2, 0.9], "empty"),
        ([0.1, 0.1, 1.4, 0.9], "outside"),
        ([0.1, 0.1, float("nan"), 0.9], "not finite"),
    ],
)
def test_bad_boxes_are_refused(tiny_model, box, message):
    with pytest.raises(ValueError, match=message):
        tiny_model.get_region_features(torch.randn(1, 3, 64, 64), torch.tensor([[box]]))


def test_bad_input_is_refused(tiny_model, processor):
    with pytest.raises(ValueError, match="patch size"):
        tiny_model.get_image_features(torch.randn(1, 3, 65, 64))
    with pytest.raises(ValueError, match="neither images nor texts"):
        tiny_model()
    with pytest.raises(ValueError, match="without the end-of-text"):
        tiny_model.get_text_features(torch.tensor([[1, 2, 3]]))
    long = processor(text="dog " * 100, long_text=True)["input_ids"]
    with pytest.raises(ValueError, match="77 tokens"):
        tiny_model.get_text_features(long, walk_short_pos=True)
    with pytest.raises(ValueError, match="padding_side"):
        tiny_model.get_text_features(long.flip(1))
    with pytest.raises(ValueError, match="needs the tensor pixel_values, got NoneType"):
        tiny_model.get_image_features(input_ids=long)
    with pytest.raises(TypeError, match="pixels"):
        tiny_model.get_image_features(pixels=torch.randn(1, 3, 64, 64))
    with pytest.raises(ValueError, match="'eager'"):
        tiny_model(input_ids=long, output_attentions=True)
    with pytest.raises(ValueError, match="one \\(K_i, 4\\) tensor for each image"):
        tiny_model.get_region_features(torch.randn(2, 3, 64, 64), [torch.tensor([[0.0, 0.0, 1.0, 1.0]])])
    with pytest.raises(ValueError, match="without pixel_values"):
        tiny_model(input_ids=processor(text="a dog")["input_ids"], boxes=torch.zeros(1, 1, 4))


def test_another_architecture_is_refused(tmp_path):
    from transformers import SiglipConfig

    SiglipConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'siglip'"):
        FGCLIPModel.from_pretrained(tmp_path)


def test_settings_of_the_configuration_are_checked():
    with pytest.raises(ValueError, match="kept_positions"):
        FGCLIPConfig(text_config={"kept_positions": 77})
    with pytest.raises(ValueError, match="roi_pooling_size"):
        FGCLIPConfig(roi_pooling_size=0)
