"""Figures of the quickstart: the loss curves, and where held-out images answer to a phrase (figure 5 of the paper)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dataset_scripts.finehard import FineHARD
from eval.adapters import adapter_for
from eval.visualize.figures import require_matplotlib
from eval.visualize.similarity import similarity_figure
from modeling_fgclip.family import family_of

IMAGES = 4
PHRASES = 3


def loss_figure(logs: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> Path:
    """A panel a stage with every part of its loss over the steps."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(logs), 3.2), layout="constrained")
    panels = figure.subplots(1, len(logs), squeeze=False)[0]
    for panel, (stage, log) in zip(panels, logs.items(), strict=True):
        entries = [entry for entry in log if "loss" in entry]
        # A run of fewer steps than it logs after has no entry.
        parts = [name for entry in entries[:1] for name in entry if name.startswith("loss_")]
        for name in parts:
            panel.plot(
                [entry["step"] for entry in entries],
                [entry[name] for entry in entries],
                label=name.removeprefix("loss_"),
            )
        panel.set(title=stage, xlabel="step", ylabel="loss")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        if parts:
            panel.legend()
    figure.savefig(path, dpi=120)
    return path


def phrase_figure(checkpoint: Path, sample: Path, path: Path) -> Path:
    """Similarity maps of the phrases of some test images over these images."""
    model, processor = family_of(checkpoint).load(checkpoint)
    adapter = adapter_for(model.eval(), processor)
    images, phrases = [], []
    for record in FineHARD(root=str(sample / "test")).as_streaming_dataset(split="train"):
        if len(record["regions"]) >= PHRASES:
            images.append(record["image"])
            phrases.append([region["short_expr"] for region in record["regions"][:PHRASES]])
        if len(images) == IMAGES:
            break
    return similarity_figure(path, adapter, images, phrases, title="Where a phrase is found, images never seen")
