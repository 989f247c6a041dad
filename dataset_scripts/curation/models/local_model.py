"""A transformers model in this process: image-text-to-text (CogVLM2-class), or a language model for text requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from modeling_fgclip.pixels import to_rgb
from modeling_fgclip.text_checks import check_vocabulary

from .messages import Answer

if TYPE_CHECKING:
    from .messages import ChatSettings, OnAnswer, Request


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA, then MPS, then the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class LocalBackend:
    """Batches of `batch_size` through ``generate``; requests with and without an image are not mixed in a batch."""

    def __init__(self, settings: ChatSettings) -> None:
        self.settings = settings
        self.refusal: str | None = None
        options = {"trust_remote_code": settings.trust_remote_code}
        config = AutoConfig.from_pretrained(settings.model, **options)
        self.sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        auto = AutoModelForImageTextToText if self.sees else AutoModelForCausalLM
        self.processor = (AutoProcessor if self.sees else AutoTokenizer).from_pretrained(settings.model, **options)
        self.tokenizer = check_vocabulary(getattr(self.processor, "tokenizer", self.processor))
        if self.tokenizer.chat_template is None and getattr(self.processor, "chat_template", None) is None:
            raise ValueError(f"{settings.model} has no chat template; use a chat or instruction-tuned model.")
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.device = pick_device(settings.device)
        self.model = auto.from_pretrained(settings.model, dtype=settings.dtype, **options).to(self.device).eval()

    def ask(self, requests: list[Request], keep: OnAnswer, on_answer: OnAnswer) -> None:
        """Batches of like requests, in order."""
        for with_image in (True, False):
            positions = [i for i, request in enumerate(requests) if (request.image is not None) == with_image]
            if positions and with_image and not self.sees:
                raise ValueError(
                    f"{self.settings.model} takes no images; recaption needs an image-text-to-text model."
                )
            for start in range(0, len(positions), self.settings.batch_size):
                part = positions[start : start + self.settings.batch_size]
                for i, answer in zip(part, self._generate([requests[i] for i in part]), strict=True):
                    keep(i, answer)
                    on_answer(i, answer)

    @torch.inference_mode()
    def _generate(self, requests: list[Request]) -> list[Answer]:
        inputs = self.processor.apply_chat_template(
            [self._messages(request) for request in requests],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            **({"processor_kwargs": {"padding": True}} if self.sees else {"padding": True}),
        ).to(self.device)
        for name, value in inputs.items():
            if value.is_floating_point():
                inputs[name] = value.to(self.model.dtype)
        sampled = self.settings.temperature > 0
        options: dict[str, Any] = {"do_sample": sampled}
        if sampled:
            torch.manual_seed(requests[0].seed)
            options["temperature"] = self.settings.temperature
        output = self.model.generate(
            **inputs, max_new_tokens=self.settings.max_tokens, pad_token_id=self.tokenizer.pad_token_id, **options
        )
        width = inputs["input_ids"].shape[1]
        stops = self.model.generation_config.eos_token_id
        stops = set(stops) if isinstance(stops, list) else {stops, self.tokenizer.eos_token_id}
        answers = []
        for row, mask in zip(output[:, width:], inputs["attention_mask"], strict=True):
            ids = row.tolist()
            end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
            answers.append(
                Answer(
                    text=self.tokenizer.decode(ids[:end], skip_special_tokens=True),
                    finish_reason="stop" if end < len(ids) else "length",
                    prompt_tokens=int(mask.sum()),
                    completion_tokens=min(end + 1, len(ids)),
                )
            )
        return answers

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        if not self.sees:
            return [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
        content: list[dict[str, Any]] = [{"type": "text", "text": request.user}]
        if request.image is not None:
            image = to_rgb(request.image).copy()
            image.thumbnail((self.settings.image_size,) * 2)
            content.insert(0, {"type": "image", "image": image})
        return [
            {"role": "system", "content": [{"type": "text", "text": request.system}]},
            {"role": "user", "content": content},
        ]
