"""A detector on disk: what was trained, its settings, and which encoder it belongs to."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dataset_scripts.atomic import replacing, write_json
from eval.adapters import load_adapter
from eval.adapters.base import ModelAdapter
from eval.detection.config import DetectorConfig
from eval.detection.detector import OpenVocabularyDetector
from eval.detection.vocabulary import Vocabulary, check_names
from eval.embed import Embedder

WEIGHTS = "detector.safetensors"
SETTINGS = "detector.json"


def save_detector(detector: OpenVocabularyDetector, folder: Path, encoder: str) -> None:
    """Writes the trained part alone as safetensors, and a JSON file with the rest.

    Args:
        encoder: checkpoint of the encoder, where `load_detector` looks for it.
    """
    adapter = detector.backbone.encoder.adapter
    with replacing(folder / WEIGHTS) as part:
        save_file({name: value.detach().cpu().contiguous() for name, value in detector.trained_state().items()}, part)
    write_json(
        folder / SETTINGS,
        {
            "config": asdict(detector.settings),
            "encoder": encoder,
            "encoder_fingerprint": adapter.fingerprint(),
            "base_classes": detector.base_classes,
        },
    )


def read_settings(folder: Path) -> dict:
    """The JSON file of a detector.

    Raises:
        ValueError: the folder holds no detector.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        DetectorConfig.from_dict(settings["config"])
        check_names(settings["base_classes"], str(folder))
        if not isinstance(settings["encoder_fingerprint"], str) or not isinstance(settings["encoder"], str):
            raise ValueError("encoder and encoder_fingerprint must be texts")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder} holds no detector ({SETTINGS}: {error}); give the output folder of training/detection/train.py."
        ) from None
    return settings


def load_detector(
    folder: Path, names: list[str] | None = None, adapter: ModelAdapter | None = None, embedder: Embedder | None = None
) -> OpenVocabularyDetector:
    """A detector in eval mode for any class names, without training.

    Args:
        folder: written by `save_detector`.
        names: classes to look for; None: the base classes. Those that training had boxes of are scored as base.
        adapter: the encoder in memory; None loads the checkpoint that the folder names.
        embedder: encodes the class names; None makes one.

    Raises:
        ValueError: no detector, another encoder than it was trained on, or bad class names.
    """
    settings = read_settings(folder)
    adapter = adapter or load_adapter(settings["encoder"])
    if adapter.fingerprint() != settings["encoder_fingerprint"]:
        raise ValueError(
            f"{folder} was trained on another encoder ({settings['encoder']}) than {adapter.name}: weights or preprocessing differ. "
            "A detector works with its own encoder alone; give that one, or train again."
        )
    embedder = embedder or Embedder(adapter, distributed=False, progress=False)
    base = settings["base_classes"]
    detector = OpenVocabularyDetector(
        adapter, Vocabulary.of(names or base, embedder, base), DetectorConfig.from_dict(settings["config"])
    )
    detector.base_classes = base
    try:
        detector.load_trained_state(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be read: {error}") from None
    return detector.eval()
