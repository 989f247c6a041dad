"""Terms: a loss of one's own, what a term needs, and the peers' losses against naive versions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import cosine_similarity, cross_entropy, normalize
from torch.testing import assert_close

from modeling_fgclip import FGCLIPModel
from tests.conftest import make_tiny_model
from tests.training.records import make_record
from tests.training.test_trainer import Records, make_trainer
from training.arguments import Stage2Arguments
from training.data.collator import FGCLIPCollator, crop
from training.forward import embed
from training.losses import TERMS, Step, Term
from training.losses.long_clip import long_clip_loss, principal_part
from training.losses.self_distillation import cosine_loss
from training.objective import Objective, parse_losses
from training.trainer import FGCLIPTrainer


def embeddings(*shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape), dim=-1)


class Spread:
    """A loss with a state: the images' distance from a center that follows them."""

    def __init__(self) -> None:
        self.center = 0.0

    def __call__(self, step: Step, scale: torch.Tensor) -> torch.Tensor:
        mean = step.output.image_embeds.mean()
        self.center = 0.9 * self.center + 0.1 * mean.item()
        return scale * (mean - self.center) ** 2

    def state_dict(self) -> dict:
        return {"center": self.center}

    def load_state_dict(self, state: dict) -> None:
        self.center = state["center"]


def test_a_loss_of_ones_own_trains_logs_and_resumes(processor, tmp_path, monkeypatch):
    monkeypatch.setitem(TERMS, "spread", Term("spread", 2.0, Spread, temperature="logit_scale_finegraind"))
    settings = {"losses": ["global", "spread=3"], "max_steps": 4, "logging_steps": 1, "save_strategy": "steps"}
    whole = make_trainer(Stage2Arguments, make_tiny_model(processor), processor, tmp_path, save_steps=2, **settings)
    whole.train()
    log = whole.state.log_history[0]
    assert log["loss"] == pytest.approx(log["loss_global"] + 3 * log["loss_spread"], rel=1e-5)
    assert log["temperature_spread"] == pytest.approx(0.07, rel=0.05)
    again = make_trainer(Stage2Arguments, make_tiny_model(processor), processor, tmp_path, save_steps=2, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    losses = [[entry.get("loss_spread") for entry in run.state.log_history] for run in (whole, again)]
    assert losses[0] == losses[1]
    assert again.objective.terms[1].loss.center == whole.objective.terms[1].loss.center != 0


def test_a_term_says_what_it_needs_and_weighs():
    with pytest.raises(ValueError, match="needs \\['sound'\\]"):
        Term("loud", 1.0, Spread, needs=frozenset({"sound"}))
    with pytest.raises(ValueError, match="weight of the loss 'global'"):
        replace(TERMS["global"], weight=float("nan"))
    with pytest.raises(ValueError, match="twice"):
        parse_losses(["global", "global=2"])
    assert [term.name for term in parse_losses(["global", "hard=0"])] == ["global"]
    one, other = Objective([TERMS["hard"]]), Objective([replace(TERMS["hard"], loss=Spread)])
    assert one.state_dict() == {}
    assert other.state_dict() == {"hard": {"center": 0.0}}
    with pytest.raises(ValueError, match="without the loss 'hard'"):
        other.load_state_dict(one.state_dict())


def test_cosine_loss_is_the_mean_of_one_minus_cosine():
    region, target = embeddings(5, 8), embeddings(5, 8)
    assert_close(cosine_loss(region, target), (1 - cosine_similarity(region, target)).mean())
    assert_close(cosine_loss(region, region), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert cosine_loss(region[:0], target[:0]) == 0


@pytest.mark.parametrize(("rows", "components"), [(40, 6), (40, 16), (5, 32)])
def test_principal_part_is_scikit_learns(rows, components):
    image = embeddings(rows, 16)
    pca = PCA(min(rows, components), svd_solver="full").fit(image.numpy())
    expected = pca.inverse_transform(pca.transform(image.numpy())).astype(np.float32)
    assert_close(principal_part(image, components), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


def test_long_clip_matches_short_captions_with_the_principal_part():
    image, long_text, short_text, scale = embeddings(9, 8), embeddings(9, 8), embeddings(9, 8), torch.tensor(5.0)
    expected = 0
    for first, second in ((image, long_text), (principal_part(image, 3), short_text)):
        logits, target = scale * first @ second.T, torch.arange(9)
        expected = expected + (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    assert_close(long_clip_loss(image, long_text, short_text, scale, components=3), expected)
    assert not torch.isclose(expected, long_clip_loss(image, long_text, short_text, scale, components=8))


def test_crops_go_through_the_one_forward(tiny_model, processor):
    """What the losses see of a crop is what the model says of that part of the photograph as an image of its own."""
    objective = Objective(parse_losses(["global", "regional=1", "self_distillation"]))
    records = [make_record(0, 2, 1), make_record(1), make_record(2, 4)]
    batch = FGCLIPCollator(processor, **objective.collation())(records)
    output = embed(tiny_model, batch)
    boxes = [(record, region["bbox"]) for record in records for region in record["regions"]]
    images = [crop(record["image"], box) for record, box in boxes]
    expected = normalize(tiny_model.get_image_features(processor(images=images)["pixel_values"]), dim=-1)
    assert_close(output.crop_embeds, expected, rtol=1e-4, atol=1e-5)
    assert output.image_embeds.shape[0] == output.region_embeds.shape[0] == 3
    losses = objective.losses(output, batch)
    regions = output.region_embeds[batch["region_index"] >= 0]
    assert_close(losses["self_distillation"], (1 - cosine_similarity(regions, expected)).mean(), rtol=1e-4, atol=1e-5)
    objective.total(losses).backward()
    plain = embed(tiny_model, {name: value for name, value in batch.items() if name != "crops"})
    assert_close(plain.image_embeds, output.image_embeds, rtol=1e-4, atol=1e-5)
    assert_close(plain.region_embeds, output.region_embeds, rtol=1e-4, atol=1e-5)


def test_a_crop_holds_the_pixels_of_its_box_and_at_least_one():
    image = make_record(0)["image"]  # 64 wide, 48 high
    assert crop(image, [0.25, 0.5, 0.75, 1.0]).size == (32, 24)
    assert crop(image, [0.0, 0.0, 0.001, 0.001]).size == crop(image, [0.999, 0.999, 1.0, 1.0]).size == (1, 1)
    assert (np.asarray(crop(image, [0.25, 0.5, 0.75, 1.0])) == np.asarray(image)[24:48, 16:48]).all()


def test_clipself_learns_from_where_it_started_and_leaves_texts_alone(processor, tmp_path):
    class Described(Records):
        def __getitem__(self, index: int) -> dict:
            return make_record(index, regions=2)

    def trainer(model: FGCLIPModel) -> FGCLIPTrainer:
        settings = {"losses": ["distillation"], "max_steps": 12, "logging_steps": 1, "save_steps": 6}
        made = make_trainer(Stage2Arguments, model, processor, tmp_path, save_strategy="steps", **settings)
        made.train_dataset = Described()
        return made

    start = {name: value.clone() for name, value in make_tiny_model(processor).state_dict().items()}
    whole = trainer(make_tiny_model(processor))
    whole.train()
    losses = [entry["loss_distillation"] for entry in whole.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    for name, value in whole.model.state_dict().items():
        stands = name.startswith(("text_", "logit_scale")) or (".layers.2.self_attn." in name and "q_proj" in name)
        if stands:
            assert torch.equal(value.reshape(start[name].shape), start[name]), name
    assert not torch.equal(whole.model.state_dict()["visual_projection.weight"], start["visual_projection.weight"])
    again = trainer(make_tiny_model(processor))
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
