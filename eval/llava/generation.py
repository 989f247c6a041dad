"""Greedy answers of a LLaVA of transformers, in batches padded on the left."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BatchFeature,
    GenerationConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from dataset_scripts.progress import progress_bar
from eval.arguments import PRECISIONS
from eval.embed import process_state
from eval.identity import digest_of
from eval.llava.benchmark import Question
from eval.llava.image_fit import image_fit_of
from eval.loading import default_workers, prepared_batches
from eval.names import name_of
from eval.together import failing_together


class Answerer:
    """A LLaVA with its processor.

    Args:
        model, processor: as `AutoModelForImageTextToText` and `AutoProcessor` load them.
        name: what reports call the model.
        batch_size: questions a batch. None: 16 on an accelerator, 4 on a CPU.
        num_workers: loading processes. None: `default_workers`.
        device: None: accelerate's.
        progress: show a progress bar (on the main process).
    Raises:
        ValueError: a processor without a chat template, an image token or a padding token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        name: str = "a model",
        batch_size: int | None = None,
        num_workers: int | None = None,
        device: torch.device | None = None,
        progress: bool = True,
    ):
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
        _check_processor(processor)
        self.state = process_state()
        self.device = device or self.state.device
        on_cpu = self.device.type == "cpu"
        self.batch_size = batch_size or (4 if on_cpu else 16)
        self.num_workers = default_workers(self.device) if num_workers is None else num_workers
        self.progress = progress and self.state.is_main_process
        self.model, self.processor, self.name = model.to(self.device).eval(), processor, name
        self.image_fit = image_fit_of(processor.image_processor)
        self.tokenizer = processor.tokenizer

    @classmethod
    def from_pretrained(
        cls, source: str, name: str = "", precision: str = "auto", revision: str | None = None, **options: Any
    ) -> Answerer:
        """Loads a folder or a Hub repository.

        Args:
            precision: "float32", "bfloat16", or "auto": bfloat16 on an accelerator, float32 on a CPU.
            options: of the constructor.
        Raises:
            ValueError: an unknown precision, or no LLaVA there.
        """
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision must be auto or one of {', '.join(PRECISIONS)}; got {precision!r}.")
        if precision == "auto":
            precision = "float32" if process_state().device.type == "cpu" else "bfloat16"
        try:
            processor = AutoProcessor.from_pretrained(source, revision=revision)
            model = AutoModelForImageTextToText.from_pretrained(
                source, revision=revision, dtype=getattr(torch, precision)
            )
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{source} is no LLaVA that transformers loads ({' '.join(str(error).split())[:300]}). It must be a folder or "
                "Hub repository with a model and a processor, as `fgclip llava build` writes."
            ) from None
        return cls(model, processor, name or name_of(source), **options)

    def settings(self) -> dict[str, Any]:
        """What moves a number."""
        commit = getattr(self.model.config, "_commit_hash", None)
        return {
            "model": self.name,
            "precision": str(self.model.dtype).removeprefix("torch."),
            "image_fit": self.image_fit,
            "resolution": self.model.config.vision_config.image_size,
            "decoding": "greedy",
        } | ({"commit": commit} if commit else {})

    @functools.cached_property
    def fingerprint(self) -> str:
        """The model and its preprocessing but not its name: weights, and what an image and a question become."""
        pixels = (np.arange(61 * 97 * 3) * 37 % 256).astype(np.uint8).reshape(61, 97, 3)
        probe = self.inputs(["A question."], [Image.fromarray(pixels)])
        settings = {name: value for name, value in self.settings().items() if name not in ("model", "commit")}
        return digest_of([self.model.state_dict(), dict(probe), settings])

    def run_identity(self, questions: Sequence[Question], max_new_tokens: int) -> str:
        """Equal for two runs exactly if the model, the questions and their images are."""
        asked = [[question.id, question.prompt, question.image] for question in questions]
        return digest_of([self.fingerprint, max_new_tokens, asked])

    def prompt(self, question: str) -> str:
        """The question as the model reads it, up to where its answer begins, with one mark for the image.

        Raises:
            ValueError: another number of image marks; the model would answer without the image, or for several.
        """
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        marks = text.count(self.processor.image_token)
        if marks != 1:
            raise ValueError(
                f"the prompt for {question[:80]!r} holds the image token {self.processor.image_token!r} {marks} times, for one "
                "image; the chat template must write it once, and a question must not hold it."
            )
        return text

    def inputs(self, questions: Sequence[str], images: Sequence[Image.Image]) -> BatchFeature:
        """Questions about one image each, as tensors padded on the left."""
        texts = [self.prompt(question) for question in questions]
        bos = self.tokenizer.bos_token
        writes_bos = bool(bos) and texts[0].startswith(bos)  # a second one would come from the tokenizer
        return self.processor(
            images=list(images),
            text=texts,
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=not writes_bos,
        )

    def answers(
        self, questions: Sequence[Question], max_new_tokens: int, title: str = "answering"
    ) -> Iterator[tuple[list[Question], list[str]]]:
        """Answers, batch by batch, on all processes the same; questions of similar length go together.

        Raises:
            ValueError: an image that is missing or broken.
        """
        # By length, so that little is padded; ties in the order of the files.
        order = sorted(range(len(questions)), key=lambda place: len(questions[place].prompt))
        batches = [
            [questions[place] for place in order[start : start + self.batch_size]]
            for start in range(0, len(order), self.batch_size)
        ]
        rank, world = self.state.process_index, self.state.num_processes
        mine = batches[rank::world]
        stream = iter(prepared_batches(mine, self._prepare, self.num_workers, self.device))
        rounds = range(-(-len(batches) // world))
        bar = progress_bar(total=len(questions), desc=title, unit="question", disable=not self.progress)
        for number in rounds:
            found: list[tuple[int, list[str]]] = []
            with failing_together():
                if number < len(mine):
                    found = [(number * world + rank, self._generate(next(stream), max_new_tokens))]
            for place, texts in sorted(gather_object(found) if world > 1 else found):
                bar.update(len(texts))
                yield batches[place], texts
        bar.close()

    def shared(self, value: Any) -> Any:
        """The main process's value, on all processes."""
        values = [value]
        if self.state.num_processes > 1:
            broadcast_object_list(values)
        return values[0]

    def _prepare(self, batch: Sequence[Question]) -> BatchFeature:
        return self.inputs([question.prompt for question in batch], [question.image.open() for question in batch])

    @torch.inference_mode()
    def _generate(self, inputs: BatchFeature, max_new_tokens: int) -> list[str]:
        inputs = inputs.to(self.device, dtype=self.model.dtype)
        ends = self.model.generation_config.eos_token_id
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=ends if ends is not None else self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        tokens = self.model.generate(**inputs, generation_config=config)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.processor.batch_decode(new, skip_special_tokens=True)]


def _check_processor(processor: ProcessorMixin) -> None:
    lacking = [
        what
        for what, value in (
            ("an image processor", getattr(processor, "image_processor", None)),
            ("an image token", getattr(processor, "image_token", None)),
            ("a chat template", getattr(processor, "chat_template", None)),
            ("a padding token", getattr(getattr(processor, "tokenizer", None), "pad_token", None)),
        )
        if not value
    ]
    if lacking:
        raise ValueError(
            f"the processor {type(processor).__name__} lacks {' and '.join(lacking)}; `fgclip llava build` writes a complete one."
        )
