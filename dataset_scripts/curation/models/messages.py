"""What is said between the steps and whoever answers: settings, requests, answers, and the backend's one method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..settings import operational

if TYPE_CHECKING:
    from PIL.Image import Image

BACKENDS = ("endpoint", "local")
STRUCTURED_OUTPUTS = ("json_schema", "tgi", "none")


@dataclass
class ChatSettings:
    """Which model answers, and how it is asked. Prices are per million tokens, in any one currency.

    `structured_output` is how an endpoint is given the prompt's JSON schema: the standard ``response_format`` (OpenAI,
    vLLM, SGLang, llama.cpp, newer TGI), ``tgi``'s own form, or ``none``. After twenty answers a run warns where almost
    nothing of what was asked for can be used; below the share `stop_below` it stops and can be resumed.
    """

    backend: str = "endpoint"
    model: str = ""
    # endpoint
    base_url: str = operational("")
    api_key_env: str = operational("OPENAI_API_KEY")  # name of the variable, so that no key stands in a recipe
    concurrency: int = operational(16)
    timeout: float = operational(120.0)  # seconds a request
    retries: int = operational(6)  # waits 0.5 to 8 seconds between them, or what the server says
    prompt_price: float = operational(0.0)
    completion_price: float = operational(0.0)
    max_cost: float | None = operational(None)  # the run stops, resumable, when its account passes this
    stop_below: float | None = operational(None)
    structured_output: str = "json_schema"
    # in process
    device: str = operational("auto")
    dtype: str = "auto"
    batch_size: int = operational(8)
    trust_remote_code: bool = False
    # both
    max_tokens: int = 512
    temperature: float = 0.0
    image_size: int = 1024  # longer side of what the model is sent

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"chat.backend is {self.backend!r}; it must be one of {', '.join(BACKENDS)}.")
        if self.structured_output not in STRUCTURED_OUTPUTS:
            known = ", ".join(STRUCTURED_OUTPUTS)
            raise ValueError(f"chat.structured_output is {self.structured_output!r}; it must be one of {known}.")
        if not self.model:
            raise ValueError("chat.model is empty; name the model that the endpoint serves, or a folder or Hub name.")
        if self.backend == "endpoint" and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"chat.base_url is {self.base_url!r}; the endpoint backend needs one such as http://127.0.0.1:8000/v1."
            )
        for name in ("concurrency", "batch_size", "max_tokens", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"chat.{name} is {getattr(self, name)}; it must be 1 or more.")
        if not self.timeout > 0:
            raise ValueError(f"chat.timeout is {self.timeout}; it must be above 0 seconds.")
        for name in ("retries", "temperature", "prompt_price", "completion_price"):
            if getattr(self, name) < 0:
                raise ValueError(f"chat.{name} is {getattr(self, name)}; it must not be negative.")
        if self.stop_below is not None and not 0 <= self.stop_below <= 1:
            raise ValueError(f"chat.stop_below is {self.stop_below}; it must lie between 0 and 1, or be left out.")


@dataclass(frozen=True)
class Request:
    """One question. `image` is sent with it; `schema` is the JSON schema its answer should follow."""

    system: str
    user: str
    image: Image | None = None
    schema: dict[str, Any] | None = None
    seed: int = 0

    def key(self, settings: ChatSettings) -> str:
        """Names the question and who is asked, so that a journal never answers for another model or wording."""
        asked = {
            "model": settings.model,
            "max_tokens": settings.max_tokens,
            "temperature": settings.temperature,
            "system": self.system,
            "user": self.user,
            "seed": self.seed,
            "schema": [settings.structured_output, self.schema] if self.schema else None,
        }
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
        if self.image is not None:
            digest.update(f"{settings.image_size} {self.image.size}".encode())
            digest.update(self.image.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Answer:
    """What came back. `failure` names why nothing did; such an answer is not kept and will be asked again."""

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failure: str | None = None
    retries: int = 0

    @property
    def cut(self) -> bool:
        """Whether the model was stopped at the token limit."""
        return self.finish_reason == "length"


OnAnswer = Callable[[int, Answer], None]  # is given a request's position and its answer


class Backend(Protocol):
    """Answers requests: calls `keep` the moment that an answer arrives, from any thread, then `on_answer` from one thread.

    `refusal` is what a server said that will not take a JSON schema; it is then asked without.
    """

    refusal: str | None

    def ask(self, requests: list[Request], keep: OnAnswer, on_answer: OnAnswer) -> None: ...
