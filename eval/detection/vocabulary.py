"""Class names as text embeddings, with a background of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import normalize

from eval.embed import Embedder
from eval.prompts import BARE
from eval.tasks.boxes import class_embeddings

BACKGROUND = "background"
TEMPLATES_FILE = Path(__file__).parents[1] / "assets" / "detection_templates.txt"


def prompt_name(name: str) -> str:
    """``Hair_dryer/blower`` → ``hair dryer or blower``, as F-ViT writes names into its prompts."""
    return " ".join(name.replace("_", " ").replace("/", " or ").lower().split())


def prompts(name: str, templates: Sequence[str]) -> list[str]:
    """The texts of a class. ``{article}`` becomes a or an; a text that would begin with an article gets "This is"."""
    name = prompt_name(name)
    article = "an" if name[:1] in "aeiou" else "a"
    texts = [template.replace("{article}", article).replace("{}", name) for template in templates]
    return [f"This is {text}" if text.startswith(("a ", "an ", "the ")) else text for text in texts]


def load_templates() -> list[str]:
    """ViLD's 63 templates (Gu et al., 2022), which F-ViT uses."""
    return TEMPLATES_FILE.read_text(encoding="utf-8").splitlines()


def read_names(path: Path) -> list[str]:
    """Class names of a text file, one a line.

    Raises:
        ValueError: no name, one twice, or "background", which every detector has already.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no text file with one class name a line: {error}") from None
    check_names(names, str(path))
    return names


def check_names(names: Sequence[str], where: str) -> None:
    """Raises:
    ValueError: no name, two that make the same prompt, or the background's.
    """
    if not names:
        raise ValueError(f"{where} names no class; write one name a line.")
    seen: dict[str, str] = {}
    for name in names:
        prompt = prompt_name(name)
        if not prompt or prompt == BACKGROUND:
            raise ValueError(
                f"{where}: {name!r} cannot be a class; the background has an embedding of its own. Remove it."
            )
        if prompt in seen:
            raise ValueError(f"{where} names the class {seen[prompt]!r} twice ({name!r}); remove one.")
        seen[prompt] = name


@dataclass(frozen=True)
class Vocabulary:
    """What the detector tells apart.

    Attributes:
        names: C class names.
        embeddings: (1 + C, D) float32, normalized; the background comes first, as in torchvision's labels.
        is_base: (C,) booleans: classes whose boxes trained the detector.
    """

    names: tuple[str, ...]
    embeddings: torch.Tensor
    is_base: torch.Tensor

    @classmethod
    def of(cls, names: Sequence[str], embedder: Embedder, base: Sequence[str]) -> Vocabulary:
        """Embeds the class names in all templates, and "background" as it stands (F-ViT does not learn it), as texts of
        regions where the model has a head for them (FG-CLIP 2).

        Args:
            names: classes. base: names of the classes that training has boxes of.
        """
        check_names(names, "the vocabulary")
        templates = load_templates()
        filled = [prompts(name, templates) for name in names]
        classes = class_embeddings(embedder, filled, BARE, "region")
        background = normalize(embedder.texts([BACKGROUND], "region"), dim=-1)
        known = {prompt_name(name) for name in base}
        is_base = torch.tensor([prompt_name(name) in known for name in names])
        return cls(tuple(names), torch.cat([background, classes]).float(), is_base)
