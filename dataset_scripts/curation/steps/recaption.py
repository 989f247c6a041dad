"""Step 1: long captions from a large multimodal model (paper, 3.2: CogVLM2-19B). The alt text becomes the short one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..models.answers import judge_caption, tidy_caption, whole_sentences
from ..models.chat import Chat, Verdict
from ..models.messages import ChatSettings, Request
from ..models.prompts import load_prompt, prompt_digest
from ..settings import names_file
from .step import Step

if TYPE_CHECKING:
    from ..models.messages import Answer


@dataclass
class RecaptionSettings:
    """`overwrite` also asks for images that have a long caption already. `hint` tells the model the first short caption."""

    chat: ChatSettings = field(
        default_factory=lambda: ChatSettings(model="Qwen/Qwen2.5-VL-7B-Instruct", backend="local")
    )
    prompt: str = names_file("recaption_v1", prompt_digest)
    overwrite: bool = False
    hint: bool = False
    min_words: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        load_prompt(self.prompt)


class Recaption(Step):
    """Column `caption` from the image; what fails keeps the caption it had, with the reason in `failures`."""

    Settings = RecaptionSettings
    writes = ("caption",)
    images = True
    large = True
    asks = "record"

    def __init__(self, settings: RecaptionSettings) -> None:
        super().__init__(settings)
        self.prompt = load_prompt(settings.prompt)
        self.chat = Chat(settings.chat)

    @classmethod
    def chat_settings(cls, settings: RecaptionSettings) -> ChatSettings:
        return settings.chat

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        asked = [i for i, caption in enumerate(batch["caption"]) if self.settings.overwrite or not caption]
        requests = [self._request(batch["image"][i], batch["short_captions"][i]) for i in asked]
        verdicts = self.chat.ask(requests, lambda _, answers: [self._judge(answer) for answer in answers])
        captions, failures = list(batch["caption"]), [list(reasons) for reasons in batch["failures"]]
        for i, verdict in zip(asked, verdicts, strict=True):
            if verdict.reason is None:
                captions[i] = verdict.value
            else:
                failures[i].append(f"recaption: {verdict.reason}")
        return {**batch, "caption": captions, "failures": failures}

    def _judge(self, answer: Answer) -> Verdict:
        text = tidy_caption(answer.text)
        if answer.cut:
            text = whole_sentences(text)
        reason = answer.failure or judge_caption(text, self.settings.min_words)
        if reason and answer.cut:
            reason += " (cut off)"
        return Verdict(text, int(reason is None), 1, reason)

    def _request(self, image: Any, short: list[str]) -> Request:
        hint = ""
        if self.settings.hint and short and self.prompt.hint:
            hint = self.prompt.hint.replace("$caption", short[0])
        return Request(self.prompt.system, self.prompt.fill(hint=hint), image=image, seed=self.settings.seed)
