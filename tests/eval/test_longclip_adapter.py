"""Long-CLIP's original checkpoints against the same model in transformers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPProcessor

from eval.adapters import CLIPAdapter, load_adapter
from eval.adapters.longclip import model_from_openai
from tests.eval.adapter_checks import TEXTS, require_fingerprint


def openai_state(clip: CLIPModel, second_table: bool) -> dict[str, torch.Tensor]:
    """A transformers CLIP's weights under OpenAI's names: the inverse of the conversion, from the published code."""
    theirs: dict[str, torch.Tensor] = {}
    state = clip.state_dict()
    plain = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "logit_scale": "logit_scale",
    }
    theirs |= {new: state[old] for new, old in plain.items()}
    theirs["visual.proj"], theirs["text_projection"] = clip.visual_projection.weight.T, clip.text_projection.weight.T
    for part in ("weight", "bias"):
        theirs[f"visual.ln_pre.{part}"] = state[f"vision_model.pre_layrnorm.{part}"]
        theirs[f"visual.ln_post.{part}"] = state[f"vision_model.post_layernorm.{part}"]
        theirs[f"ln_final.{part}"] = state[f"text_model.final_layer_norm.{part}"]
        for tower, prefix in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
            for i in range(2):
                layer, block = f"{tower}.encoder.layers.{i}", f"{prefix}.resblocks.{i}"
                thirds = [state[f"{layer}.self_attn.{letter}_proj.{part}"] for letter in "qkv"]
                theirs[f"{block}.attn.in_proj_{part}"] = torch.cat(thirds)
                names = {
                    "attn.out_proj": "self_attn.out_proj",
                    "ln_1": "layer_norm1",
                    "ln_2": "layer_norm2",
                    "mlp.c_fc": "mlp.fc1",
                    "mlp.c_proj": "mlp.fc2",
                }
                theirs |= {f"{block}.{new}.{part}": state[f"{layer}.{old}.{part}"] for new, old in names.items()}
    positions = state["text_model.embeddings.position_embedding.weight"]
    theirs["positional_embedding"] = positions
    if second_table:  # each table holds garbage where the other one is read
        first, second = positions.clone(), positions.clone()
        first[20:], second[:20] = 99, 99
        theirs["positional_embedding"], theirs["positional_embedding_res"] = first, second
    return {name: value.detach().clone().contiguous() for name, value in theirs.items()}


@pytest.fixture(scope="module")
def long_clip(tiny_clip) -> CLIPModel:
    """A CLIP with 248 text positions and heads of 64, as OpenAI's models have."""
    torch.manual_seed(1)
    config = tiny_clip.config.to_dict()
    for tower in ("text_config", "vision_config"):
        config[tower] |= {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1}
    config["text_config"]["max_position_embeddings"] = 248
    return CLIPModel(type(tiny_clip.config).from_dict(config)).eval()


@torch.no_grad()
def test_longclip_checkpoint_in_its_original_layout(long_clip, tiny_processor, photos, tmp_path):
    save_file(openai_state(long_clip, second_table=True), tmp_path / "longclip.safetensors")
    CLIPProcessor(tiny_processor.image_processor, tiny_processor.tokenizer).save_pretrained(tmp_path / "processor")
    adapter = load_adapter(f"longclip:{tmp_path / 'longclip.safetensors'}:{tmp_path / 'processor'}")
    assert adapter.long_text
    assert adapter.settings()["architecture"] == "Long-CLIP"
    texts = [*TEXTS, "word " * 60]  # beyond 77 tokens
    mine, theirs = adapter.tokenize(texts, "long"), CLIPAdapter(long_clip, tiny_processor)
    assert mine["input_ids"].shape[1] == 242
    # The ids of the original vocabulary's end differ from the tiny tokenizer's, so the ends are set as the tests need.
    adapter.model.text_model.eos_token_id = adapter.model.config.text_config.eos_token_id = (
        long_clip.config.text_config.eos_token_id
    )
    torch.testing.assert_close(adapter.encode_texts(mine, "long"), theirs.encode_texts(mine, "long"))
    inputs = adapter.preprocess(photos, squash=True)
    torch.testing.assert_close(adapter.encode_dense(inputs), theirs.encode_dense(inputs))
    require_fingerprint(adapter)


def test_longclip_refuses_pickles_and_other_states(tmp_path):
    with pytest.raises(ValueError, match="is a pickle"):
        load_adapter(f"longclip:{tmp_path / 'longclip-B.pt'}")
    with pytest.raises(ValueError, match="not a state dict in OpenAI's CLIP layout"):
        model_from_openai({"weight": torch.zeros(1)})
