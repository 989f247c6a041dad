"""Planned memory against what models hold."""

import pytest
import torch

from benchmarks.stage2_batch import make_batch
from modeling_fgclip import FGCLIPConfig, FGCLIPModel
from training.architectures import architecture
from training.planning.memory import autocast_copies, fgclip_encoders, parameter_count, peak_bytes, state_bytes


def test_parameters_of_the_published_models():
    # CLIP ViT-B/16 has 149,620,737; to them come two tables of 248 positions, a projection and two temperatures.
    assert parameter_count(architecture("b16")) == 149_620_737 + 2 * 248 * 512 + 512 * 512 + 2
    # Of FG-CLIP 2's, most are the 256,000 tokens.
    base = architecture("fgclip2-base")
    assert parameter_count(base, but=("text_model.embeddings.token_embedding",)) == (
        parameter_count(base) - 256_000 * 768
    )
    assert parameter_count(base) == pytest.approx(384e6, rel=0.01)


def kept_bytes(model: FGCLIPModel, batch: dict, half: bool) -> int:
    """Bytes of all distinct tensors that autograd keeps in a forward, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = tensor
        return tensor

    names = [name for name in ("pixel_values", "packed_texts", "boxes") if name in batch]
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        output = model(**{name: batch[name] for name in names})
    # Held together with the output, so that no storage is used twice.
    assert output.image_embeds is not None
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return total


def wide_config() -> FGCLIPConfig:
    """Wide and deep enough for what is planned to outweigh what is not: statistics of norms, the embeddings, the ends."""
    encoder = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 6, "num_attention_heads": 2}
    ids = {"vocab_size": 100, "bos_token_id": 98, "eos_token_id": 99, "pad_token_id": 99}
    vision = {**encoder, "image_size": 64, "patch_size": 8}
    return FGCLIPConfig(projection_dim=48, text_config={**encoder, **ids}, vision_config=vision)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", ["stage1", "hard"])
def test_activations_are_what_autograd_keeps(case, half):
    config = wide_config()
    batch = make_batch(config, images=4, case=case, share_prefixes=False)
    groups = batch["packed_texts"]["length_groups"]
    encoders = fgclip_encoders(config, 4, 64, groups, regions=case == "hard", half=half)
    planned = peak_bytes(encoders, half, "none") + (autocast_copies(config, "ddp", "none") if half else 0)
    # Texts of one length at a time, as without variable-length attention, are put together again after attention.
    tokens, whole_blocks = len(batch["packed_texts"]["input_ids"]), config.text_config.num_hidden_layers - 1
    planned += tokens * whole_blocks * 96 * (2 if half else 4)
    if half:
        # A CPU attends to texts in float32: queries, keys, values and what leaves; of the last block keys and values.
        planned += tokens * 96 * 2 * (4 * whole_blocks + 2)
    assert planned == pytest.approx(kept_bytes(FGCLIPModel(config).train(), batch, half), rel=0.05)


def test_sharding_divides_what_is_sharded():
    assert sum(state_bytes(100, "ddp", 1).values()) == 100 * 16
    assert sum(state_bytes(100, "zero2", 4).values()) == 100 * (2 + 2 + 12 / 4)
    assert sum(state_bytes(100, "fsdp2", 4).values()) == 100 * 16 / 4
