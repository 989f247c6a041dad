"""Asking a model: requests in, answers out, each answer kept in a journal the moment it arrives.

Two backends answer the same requests: an OpenAI-compatible endpoint (:mod:`.endpoint`) and a transformers model in this
process (:mod:`.local_model`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from PIL.Image import Image

BACKENDS = ("endpoint", "local")
STRUCTURED_OUTPUTS = ("tgi", "vllm", "none")


@dataclass
class ChatSettings:
    """Which model answers, and how it is asked. Prices are per million tokens, in any one currency."""

    backend: str = "endpoint"
    model: str = ""
    # endpoint
    base_url: str = ""
    api_key_env: str = "OPENAI_API_KEY"  # name of the variable, so that no key stands in a recipe
    concurrency: int = 16
    timeout: float = 120.0  # seconds a request
    retries: int = 5
    backoff: float = 1.0  # seconds before the first retry; doubled each time, with jitter
    max_backoff: float = 60.0
    prompt_price: float = 0.0
    completion_price: float = 0.0
    max_cost: float | None = None  # the run stops, resumable, when its account passes this
    # in process
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 8
    trust_remote_code: bool = False
    # both
    max_tokens: int = 512
    temperature: float = 0.0
    image_size: int = 1024  # longer side of what the model is sent
    structured_output: str = (
        "tgi"  # how the prompt's JSON schema is sent: tgi (which vLLM reads as "any JSON"), vllm, none
    )

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
        for name in ("timeout", "backoff", "max_backoff"):
            if not getattr(self, name) > 0:
                raise ValueError(f"chat.{name} is {getattr(self, name)}; it must be above 0 seconds.")
        for name in ("retries", "temperature", "prompt_price", "completion_price"):
            if getattr(self, name) < 0:
                raise ValueError(f"chat.{name} is {getattr(self, name)}; it must not be negative.")


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


class Backend(Protocol):
    """Answers requests; calls `on_answer` with position and answer as each arrives, in any order."""

    def ask(self, requests: list[Request], on_answer: Callable[[int, Answer], None]) -> None: ...


@dataclass
class Account:
    """What was asked and spent. `reused` answers came from a journal and cost nothing now, but did once."""

    requests: int = 0
    reused: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Answer, reused: bool = False) -> None:
        self.requests += 1
        self.reused += reused
        self.retries += answer.retries
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        if answer.failure:
            self.failures[answer.failure] += 1

    def cost(self, settings: ChatSettings) -> float:
        """In the currency of the prices, answers taken from the journal included."""
        return (self.prompt_tokens * settings.prompt_price + self.completion_tokens * settings.completion_price) / 1e6

    def to_dict(self, settings: ChatSettings) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "reused": self.reused,
            "retries": self.retries,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self.cost(settings),
            "failures": dict(self.failures),
        }


class Journal:
    """Answers by request, one JSON line each, written out when they arrive: kill -9 loses none and none is paid twice.

    A last line that was cut off by the kill is dropped. `path` None keeps nothing on disk.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._answers: dict[str, Answer] = {}
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 - closed by __exit__
            self._load()

    def _load(self) -> None:
        self._file.seek(0)
        good = 0
        for line in self._file:
            try:
                entry = json.loads(line)
                key = entry.pop("key")
                self._answers[key] = Answer(**entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            if not line.endswith(b"\n"):
                break
            good += len(line)
        self._file.truncate(good)

    def get(self, key: str) -> Answer | None:
        return self._answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        self._answers[key] = answer
        if self._file is not None:
            entry = {
                "key": key,
                "text": answer.text,
                "finish_reason": answer.finish_reason,
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
            }
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def __len__(self) -> int:
        return len(self._answers)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()


def make_backend(settings: ChatSettings) -> Backend:
    """The backend that `settings` names; a local model is loaded here."""
    if settings.backend == "endpoint":
        from .endpoint import EndpointBackend

        return EndpointBackend(settings)
    from .local_model import LocalBackend

    return LocalBackend(settings)


def ask_all(
    backend: Backend, settings: ChatSettings, requests: Iterable[Request], journal: Journal, account: Account
) -> list[Answer]:
    """Answers in the order of `requests`; the journal is asked first, and equal requests are asked once."""
    requests = list(requests)
    keys = [request.key(settings) for request in requests]
    fresh: dict[str, Request] = {}
    for key, request in zip(keys, requests, strict=True):
        kept = journal.get(key)
        if kept is not None:
            account.add(kept, reused=True)
        else:
            fresh.setdefault(key, request)
    order = list(fresh)
    answers: dict[str, Answer] = {}

    def on_answer(position: int, answer: Answer) -> None:
        key = order[position]
        answers[key] = answer
        account.add(answer)
        if answer.failure is None:
            journal.put(key, answer)

    if order:
        backend.ask(list(fresh.values()), on_answer)
    return [answers[key] if key in answers else journal.get(key) for key in keys]
