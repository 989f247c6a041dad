"""Prompts as versioned files: prompts/NAME_vN.yaml, or a file of one's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from dataset_scripts.formats.files import read_yaml

FOLDER = Path(__file__).with_name("prompts")


@dataclass(frozen=True)
class Prompt:
    """A system and a user text with $placeholders; `digest` names this exact wording in journals and reports."""

    name: str
    version: int
    system: str
    user: str
    hint: str = ""
    again: str = ""
    schema: dict[str, Any] | None = None
    digest: str = ""

    def fill(self, **values: object) -> str:
        """The user text with every placeholder replaced.

        Raises:
            ValueError: a placeholder has no value.
        """
        return self._substitute(self.user, values)

    def fill_again(self, **values: object) -> str:
        """The text for a later round, as :meth:`fill`."""
        return self._substitute(self.again, values)

    def fill_schema(self, **values: int) -> dict[str, Any] | None:
        """The schema with every "$name" replaced by the number of that name."""

        def filled(node: Any) -> Any:
            if isinstance(node, dict):
                return {key: filled(value) for key, value in node.items()}
            if isinstance(node, str) and node.startswith("$"):
                return int(self._substitute(node, values))
            return node

        return filled(self.schema)

    def _substitute(self, text: str, values: dict[str, object]) -> str:
        try:
            return Template(text).substitute({name: str(value) for name, value in values.items()})
        except KeyError as error:
            raise ValueError(
                f"Prompt {self.name} v{self.version} has the placeholder ${error.args[0]}; this step fills only "
                f"{', '.join(f'${name}' for name in sorted(values))}."
            ) from error


def load_prompt(name: str) -> Prompt:
    """The prompt `name` of this package ("negatives_v2"), or of the YAML file at that path.

    Raises:
        ValueError: there is none, or it has unknown or missing keys.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise ValueError(f"There is no prompt {name!r}. Known are {known}; or give the path of a .yaml file.")
    text = path.read_text(encoding="utf-8")
    raw = read_yaml(path)
    needed, optional = {"name", "version", "system", "user"}, {"again", "hint", "schema"}
    if needed - set(raw) or set(raw) - needed - optional:
        raise ValueError(f"{path}: a prompt has the keys {sorted(needed)} and may have {sorted(optional)}.")
    return Prompt(**raw, digest=hashlib.sha256(text.encode()).hexdigest()[:12])


def prompt_digest(name: str) -> str:
    """Names the exact wording of a prompt."""
    return load_prompt(name).digest
