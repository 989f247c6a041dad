"""Step 1: long captions from a large multimodal model (paper, 3.2: CogVLM2-19B). The alt text becomes the short one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..models.answers import judge_caption, tidy_caption, whole_sentences
from ..models.chat import Account, ChatSettings, Journal, Request, ask_all, make_backend
from ..models.prompts import load_prompt

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class RecaptionSettings:
    """`overwrite` also asks for images that have a long caption already. `hint` tells the model the first short caption."""

    chat: ChatSettings = field(
        default_factory=lambda: ChatSettings(model="zai-org/cogvlm2-llama3-caption", backend="local")
    )
    prompt: str = "recaption_v1"
    overwrite: bool = False
    hint: bool = False
    min_words: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        load_prompt(self.prompt)


class Recaption:
    """Column `caption` from the image; what fails keeps the caption it had, with the reason in `failures`."""

    name = "recaption"
    needs_images = True

    def __init__(self, settings: RecaptionSettings) -> None:
        self.settings = settings
        self.prompt = load_prompt(settings.prompt)
        self.backend = make_backend(settings.chat)
        self.account = Account()
        self.journal = Journal()

    def open_journal(self, path: Path | None) -> Journal:
        """Keep answers in `path` until the journal is closed; the account starts at nothing."""
        self.journal, self.account = Journal(path), Account()
        return self.journal

    def usage(self) -> dict[str, Any]:
        return self.account.to_dict(self.settings.chat)

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        asked = [i for i, caption in enumerate(batch["caption"]) if self.settings.overwrite or not caption]
        requests = [self._request(batch["image"][i], batch["short_captions"][i]) for i in asked]
        answers = ask_all(self.backend, self.settings.chat, requests, self.journal, self.account)
        captions, failures = list(batch["caption"]), [list(reasons) for reasons in batch["failures"]]
        for i, answer in zip(asked, answers, strict=True):
            text = tidy_caption(answer.text)
            if answer.finish_reason == "length":
                text = whole_sentences(text)
            reason = answer.failure or judge_caption(text, self.settings.min_words)
            if reason is None:
                captions[i] = text
            else:
                cut = " (cut off)" if answer.finish_reason == "length" else ""
                failures[i].append(f"recaption: {reason}{cut}")
        return {**batch, "caption": captions, "failures": failures}

    def _request(self, image: Any, short: list[str]) -> Request:
        hint = ""
        if self.settings.hint and short and self.prompt.hint:
            hint = self.prompt.hint.replace("$caption", short[0])
        return Request(self.prompt.system, self.prompt.fill(hint=hint), image=image, seed=self.settings.seed)
