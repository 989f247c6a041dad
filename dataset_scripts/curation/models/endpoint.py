"""Any OpenAI-compatible endpoint, through OpenAI's client: vLLM, SGLang, llama.cpp, TGI, `transformers serve`, a provider."""

from __future__ import annotations

import base64
import io
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from PIL import Image

from modeling_fgclip.extras import missing_extra
from modeling_fgclip.pixels import to_rgb

from .messages import Answer

if TYPE_CHECKING:
    from .messages import ChatSettings, OnAnswer, Request

_NOT_TAKEN = {400, 404, 422, 501}  # how servers refuse a field that they do not know


class EndpointBackend:
    """`concurrency` requests at a time. The client retries time-outs, lost connections and busy servers.

    Raises:
        ImportError: openai is not installed.
    """

    def __init__(self, settings: ChatSettings) -> None:
        try:
            import openai
        except ImportError as error:
            raise ImportError(missing_extra("chat.backend endpoint needs openai", "curation")) from error
        self.settings = settings
        self.refusal: str | None = None
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=settings.base_url,
            api_key=os.environ.get(settings.api_key_env) or "-",
            timeout=settings.timeout,
            max_retries=settings.retries,
        )

    def ask(self, requests: list[Request], keep: OnAnswer, on_answer: OnAnswer) -> None:
        """Answers arrive in any order."""

        def one(position: int) -> Answer:
            answer = self._ask_one(requests[position])
            keep(position, answer)
            return answer

        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            waiting = {pool.submit(one, i): i for i in range(len(requests))}
            try:
                for future in as_completed(waiting):
                    on_answer(waiting.pop(future), future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask_one(self, request: Request) -> Answer:
        with_schema = request.schema is not None and self.settings.structured_output != "none" and not self.refusal
        try:
            return self._send(request, with_schema)
        except self._openai.APITimeoutError:
            return Answer(failure="time-out")
        except self._openai.APIConnectionError:
            return Answer(failure="connection")
        except self._openai.APIStatusError as error:
            if not (with_schema and error.status_code in _NOT_TAKEN):
                return Answer(failure=f"HTTP {error.status_code}")
            return self._without_schema(request, error)
        except (self._openai.OpenAIError, ValueError):  # not JSON, or not a chat completion's
            return Answer(failure="malformed answer")

    def _without_schema(self, request: Request, refused: Any) -> Answer:
        """The same request without its schema: where that is answered, it was the schema that was refused."""
        try:
            answer = self._send(request, with_schema=False)
        except self._openai.OpenAIError:
            return Answer(failure=f"HTTP {refused.status_code}")
        self.refusal = f"HTTP {refused.status_code}: {str(refused.body or refused.message)[:200]}"
        return answer

    def _send(self, request: Request, with_schema: bool) -> Answer:
        """One request with the client's retries."""
        raw = self._client.chat.completions.with_raw_response.create(**self.arguments(request, with_schema))
        output = raw.parse()
        choices = getattr(output, "choices", None)  # text where the server sent no JSON
        if not choices or choices[0].message is None:
            return Answer(failure="malformed answer", retries=raw.retries_taken)
        return Answer(
            text=choices[0].message.content or "",
            finish_reason=choices[0].finish_reason or "",
            prompt_tokens=getattr(output.usage, "prompt_tokens", 0) or 0,
            completion_tokens=getattr(output.usage, "completion_tokens", 0) or 0,
            retries=raw.retries_taken,
        )

    def arguments(self, request: Request, with_schema: bool = True) -> dict[str, Any]:
        """What is sent."""
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
        if with_schema and request.schema is not None:
            arguments |= _response_format(request.schema, self.settings.structured_output)
        return arguments


def _response_format(schema: dict[str, Any], form: str) -> dict[str, Any]:
    if form == "json_schema":
        # without "strict": OpenAI's strict mode refuses schemas that say how long a text may be; local servers ignore it
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}
    if form == "tgi":
        return {"response_format": {"type": "json_object", "value": schema}}
    return {}


def data_url(image: Image.Image, longer_side: int) -> str:
    """`image` as a JPEG in a data: URL, scaled down to `longer_side` where it is larger."""
    image = to_rgb(image).copy()
    image.thumbnail((longer_side, longer_side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
