"""F-ViT: torchvision's two-stage detector on a frozen encoder, classifying by text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from eval.adapters.base import ModelAdapter
from eval.detection.config import IMAGENET_MEAN, IMAGENET_STD, DetectorConfig
from eval.detection.encoder import FrozenEncoder
from eval.detection.proposals import Proposals
from eval.detection.pyramid import Pyramid
from eval.detection.roi_heads import TextRoIHeads
from eval.detection.vocabulary import Vocabulary

_ENCODER = "backbone.encoder."


class _Backbone(nn.Module):
    def __init__(self, encoder: FrozenEncoder, config: DetectorConfig):
        super().__init__()
        self.encoder, self.pyramid = encoder, Pyramid(encoder.width, config)

    def forward(self, pixel_values: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        taps, dense = self.encoder(pixel_values)
        return self.pyramid(taps), dense


class OpenVocabularyDetector(GeneralizedRCNN):
    """Boxes of named classes in images.

    Args:
        adapter: the encoder, frozen in place.
        vocabulary: in training the base classes; later any (`detector.roi_heads.vocabulary = …`).
        config: see [`DetectorConfig`].

    Raises:
        ValueError: config and encoder do not fit.
    """

    def __init__(self, adapter: ModelAdapter, vocabulary: Vocabulary, config: DetectorConfig):
        encoder = FrozenEncoder(adapter, config.taps, config.image_size)
        layers = adapter.vision_layers()
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config.imagenet_statistics else (layers.mean, layers.std)
        # Images become one square, so that what is found in an image does not depend on its batch. In training they have
        # been resized already; a second time would undo the jitter.
        size = config.image_size
        transform = GeneralizedRCNNTransform(size, size, list(mean), list(std), size_divisible=size, _skip_resize=True)
        super().__init__(
            _Backbone(encoder, config),
            Proposals(encoder.patch, config),
            TextRoIHeads(encoder.patch, vocabulary, config),
            transform,
        )
        self.settings = config
        # Of the training boxes; whatever the vocabulary later becomes, these are scored as base classes.
        self.base_classes = [name for name, base in zip(vocabulary.names, vocabulary.is_base, strict=True) if base]

    def forward(
        self, images: Sequence[torch.Tensor], targets: Sequence[dict[str, torch.Tensor]] | None = None
    ) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """Losses by name in training, else what is in each image.

        Args:
            images: (3, height, width) each, in 0 to 1, not normalized; in training no side above `image_size`.
            targets: in training, `boxes` (K, 4) xyxy in pixels and `labels` (K,) from 1, for each image.

        Returns:
            Losses, or for each image `boxes` (K, 4) in its own pixels, `labels` (K,) from 1 and `scores` (K,), best first.
        """
        original = [tuple(image.shape[-2:]) for image in images]
        batch, targets = self.transform(list(images), None if targets is None else list(targets))
        features, dense = self.backbone(batch.tensors)
        proposals, proposal_losses = self.rpn(batch, features, targets)
        found, losses = self.roi_heads(features, proposals, batch.image_sizes, targets, dense)
        if self.training:
            return {**proposal_losses, **losses}
        return self.transform.postprocess(found, batch.image_sizes, original)

    def trained_state(self) -> dict[str, torch.Tensor]:
        """All but the encoder, whose weights never change."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(_ENCODER)}

    def load_trained_state(self, state: dict[str, torch.Tensor]) -> None:
        """Raises:
        ValueError: tensors that are missing, unexpected or of another shape.
        """
        expected = {name: value.shape for name, value in self.trained_state().items()}
        wrong = sorted(set(expected) ^ set(state)) or [n for n, shape in expected.items() if state[n].shape != shape]
        if wrong:
            raise ValueError(
                f"the weights do not belong to this detector: {len(wrong)} tensors differ, such as {wrong[0]}. Was it trained "
                "with other settings or on an encoder of another width?"
            )
        self.load_state_dict(state, strict=False)
