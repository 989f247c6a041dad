"""Any OpenAI-compatible endpoint: vLLM, TGI, `transformers serve`, a provider. With retries, back-off and time-outs."""

from __future__ import annotations

import base64
import io
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from huggingface_hub import InferenceClient, InferenceTimeoutError, constants
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

from modeling_fgclip.pixels import to_rgb

from .chat import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .chat import ChatSettings, Request

# huggingface_hub speaks through httpx or, from 2.x, httpx2; its own error derives from whichever it is.
_HttpError = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}


class EndpointBackend:
    """`concurrency` requests at a time through ``huggingface_hub.InferenceClient.chat_completion``."""

    def __init__(self, settings: ChatSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        if constants.HF_HUB_OFFLINE:
            raise ValueError(
                f"HF_HUB_OFFLINE is set, and huggingface_hub then asks no endpoint, not even {settings.base_url}. Unset it."
            )
        self.settings = settings
        self._sleep = sleep
        self._client = InferenceClient(
            base_url=settings.base_url, api_key=os.environ.get(settings.api_key_env) or "-", timeout=settings.timeout
        )

    def ask(self, requests: list[Request], on_answer: Callable[[int, Answer], None]) -> None:
        """Answers arrive in any order; `on_answer` is called from this thread alone."""
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            waiting = {pool.submit(self._ask_one, request): i for i, request in enumerate(requests)}
            try:
                for future in as_completed(waiting):
                    on_answer(waiting[future], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask_one(self, request: Request) -> Answer:
        """One request with its retries."""
        arguments = self._arguments(request)
        failure, retries = "", 0
        for retries in range(self.settings.retries + 1):
            wait = None
            try:
                output = self._client.chat_completion(**arguments)
                choice, usage = output.choices[0], output.usage
                return Answer(
                    text=choice.message.content or "",
                    finish_reason=choice.finish_reason or "",
                    prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
                    completion_tokens=getattr(usage, "completion_tokens", 0) or 0,
                    retries=retries,
                )
            except InferenceTimeoutError:
                failure = "time-out"
            except HfHubHTTPError as error:
                status = error.response.status_code
                failure = f"HTTP {status}"
                if status not in _RETRIED:
                    break
                wait = _retry_after(error.response)
            except _HttpError as error:
                failure = "time-out" if "Timeout" in type(error).__name__ else "connection"
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                failure = "malformed answer"  # not the JSON of a chat completion
            if retries < self.settings.retries:
                self._sleep(self._pause(retries) if wait is None else min(wait, self.settings.max_backoff))
        return Answer(failure=failure, retries=retries)

    def _pause(self, retry: int) -> float:
        """Doubling, capped, and between half and all of it, so that clients do not come back together."""
        full = min(self.settings.backoff * 2**retry, self.settings.max_backoff)
        return full * random.uniform(0.5, 1.0)

    def _arguments(self, request: Request) -> dict[str, Any]:
        content: Any = request.user
        if request.image is not None:
            url = data_url(request.image, self.settings.image_size)
            content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": request.user}]
        arguments: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [{"role": "system", "content": request.system}, {"role": "user", "content": content}],
            "max_tokens": self.settings.max_tokens,
            "temperature": self.settings.temperature,
            "seed": request.seed,
        }
        if request.schema is not None and self.settings.structured_output == "tgi":
            # huggingface_hub rewrites this to TGI's {"type": "json_object", "value": schema}
            answer = {"name": "answer", "schema": request.schema, "strict": True}
            arguments["response_format"] = {"type": "json_schema", "json_schema": answer}
        elif request.schema is not None and self.settings.structured_output == "vllm":
            arguments["extra_body"] = {"structured_outputs": {"json": request.schema}}
        return arguments


def data_url(image: Image.Image, longer_side: int) -> str:
    """`image` as a JPEG in a data: URL, scaled down to `longer_side` where it is larger."""
    image = to_rgb(image).copy()
    image.thumbnail((longer_side, longer_side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _retry_after(response: Any) -> float | None:
    """Seconds of a Retry-After header; its date form is left to the back-off."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None
