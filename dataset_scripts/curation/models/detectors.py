"""Open-vocabulary detectors behind one call: images and their expressions in, scored boxes out.

YOLO-World (the paper's) through ultralytics; OWLv2, Grounding DINO and OmDet-Turbo through transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor

from modeling_fgclip.text_checks import check_vocabulary

from .local_model import pick_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image


ULTRALYTICS = "ultralytics==8.4.190"  # AGPL-3.0, so it is in no extra


class Detections(NamedTuple):
    """One image's boxes, unfiltered but for the score: xyxy in fractions of the image (may reach outside)."""

    boxes: torch.Tensor  # (N, 4)
    scores: torch.Tensor  # (N,)
    expressions: list[int]  # (N,) which of the image's expressions


class Detector(Protocol):
    """Finds each expression in its image; every image has at least one expression."""

    def detect(
        self, images: Sequence[Image], expressions: Sequence[Sequence[str]], threshold: float
    ) -> list[Detections]: ...


def make_detector(
    model: str, device: str = "auto", dtype: str = "auto", trust_remote_code: bool = False, trust_pickle: bool = False
) -> Detector:
    """The detector for `model`: a YOLO-World weight file ("yolov8x-worldv2.pt"), or a transformers folder or Hub name.

    Raises:
        ImportError: YOLO-World is asked for and ultralytics is not installed.
        ValueError: YOLO-World weights without `trust_pickle` (they are a pickle, which can run any code), or a
            transformers model that is no zero-shot object detector.
    """
    if model.endswith((".pt", ".yaml")):
        if model.endswith(".pt") and not trust_pickle:
            raise ValueError(
                f"{model} is a pickle, and loading one can run any code. If you trust where it comes from, set "
                "grounding.trust_pickle to true; or use a safetensors detector such as google/owlv2-base-patch16-ensemble. "
                "Without a pickle YOLO-World runs as ONNX, exported where the file is trusted, for fixed classes (README)."
            )
        return YoloWorldDetector(model, device)
    config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    kinds = {"grounding-dino": GroundingDinoDetector, "mm-grounding-dino": GroundingDinoDetector}
    kinds |= {"owlv2": OwlDetector, "owlvit": OwlDetector, "omdet-turbo": OmDetTurboDetector}
    if config.model_type not in kinds:
        raise ValueError(
            f"{model} is a {config.model_type!r} model; grounding takes YOLO-World weights or one of {sorted(kinds)}."
        )
    return kinds[config.model_type](model, device, dtype, trust_remote_code)


class _TransformersDetector:
    """Loading, shared by the three."""

    def __init__(self, model: str, device: str, dtype: str, trust_remote_code: bool) -> None:
        self.device = pick_device(device)
        self.processor = AutoProcessor.from_pretrained(model, trust_remote_code=trust_remote_code)
        check_vocabulary(self.processor.tokenizer)
        self.model = AutoModelForZeroShotObjectDetection.from_pretrained(
            model, dtype=dtype, trust_remote_code=trust_remote_code
        )
        self.model = self.model.to(self.device).eval()

    def _to_device(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        moved = {name: value.to(self.device) for name, value in inputs.items()}
        moved["pixel_values"] = moved["pixel_values"].to(self.model.dtype)
        return moved

    @staticmethod
    def _fractions(found: dict[str, torch.Tensor], image: Image, labels: list[int], number: int) -> Detections:
        """Pixel boxes of one image as fractions; labels beyond its expressions (padding) are dropped."""
        keep = [i for i, label in enumerate(labels) if label < number]
        scale = torch.tensor([image.width, image.height, image.width, image.height], dtype=torch.float32)
        boxes = found["boxes"].float().cpu()[keep] / scale
        return Detections(boxes, found["scores"].float().cpu()[keep], [labels[i] for i in keep])


class OwlDetector(_TransformersDetector):
    """OWL-ViT and OWLv2 (Minderer et al. 2024); expressions are cut at the text tower's length (16 tokens)."""

    @torch.inference_mode()
    def detect(
        self, images: Sequence[Image], expressions: Sequence[Sequence[str]], threshold: float
    ) -> list[Detections]:
        length = self.model.config.text_config.max_position_embeddings
        inputs = self.processor(
            images=list(images),
            text=[list(texts) for texts in expressions],
            return_tensors="pt",
            text_kwargs={"padding": "max_length", "truncation": True, "max_length": length},
        )
        outputs = self.model(**self._to_device(inputs))
        for logits, texts in zip(outputs.logits, expressions, strict=True):
            logits[:, len(texts) :] = -torch.inf  # blanks that fill up the batch must not win a box
        sizes = [(image.height, image.width) for image in images]
        found = self.processor.post_process_grounded_object_detection(outputs, threshold, sizes)
        return [
            self._fractions(one, image, one["labels"].tolist(), len(texts))
            for one, image, texts in zip(found, images, expressions, strict=True)
        ]


class GroundingDinoDetector(_TransformersDetector):
    """Grounding DINO (Liu et al. 2023): all expressions of an image in one prompt, "a red dog. a ball.".

    A box's score for an expression is the highest probability among the expression's tokens. The library's own
    post-processing gives back pieces of text, which need not be whole expressions.
    """

    def detect(
        self, images: Sequence[Image], expressions: Sequence[Sequence[str]], threshold: float
    ) -> list[Detections]:
        # prompts hold up to max_text_len tokens, so an image's expressions may need several
        jobs = [(n, first, part) for n, texts in enumerate(expressions) for first, part in self._prompts(texts)]
        found = self._detect([images[n] for n, *_ in jobs], [part for *_, part in jobs], threshold)
        merged = []
        for n in range(len(images)):
            mine = [(d, first) for d, (m, first, _) in zip(found, jobs, strict=True) if m == n]
            merged.append(
                Detections(
                    torch.cat([d.boxes for d, _ in mine]),
                    torch.cat([d.scores for d, _ in mine]),
                    [first + e for d, first in mine for e in d.expressions],
                )
            )
        return merged

    def _prompts(self, texts: Sequence[str]) -> list[tuple[int, list[str]]]:
        """Index of the first expression and the expressions of each prompt."""
        limit = self.model.config.max_text_len - 2  # [CLS], [SEP]
        prompts: list[tuple[int, list[str]]] = []
        used = limit + 1
        for i, text in enumerate(texts):
            length = len(self.processor.tokenizer(_prompt_text(text), add_special_tokens=False)["input_ids"]) + 1
            if used + length > limit:
                prompts.append((i, []))
                used = 0
            prompts[-1][1].append(text)
            used += length
        return prompts

    @torch.inference_mode()
    def _detect(self, images: list[Image], expressions: list[list[str]], threshold: float) -> list[Detections]:
        prompts, spans = zip(*map(_joined_prompt, expressions), strict=True)
        inputs = self.processor(
            images=images,
            text=list(prompts),
            return_tensors="pt",
            text_kwargs={
                "padding": True,
                "truncation": True,
                "max_length": self.model.config.max_text_len,
                "return_offsets_mapping": True,
            },
        )
        offsets = inputs.pop("offset_mapping")
        outputs = self.model(**self._to_device(inputs))
        probabilities = outputs.logits.float().sigmoid().cpu()  # (B, queries, max_text_len)
        center, size = outputs.pred_boxes.float().cpu().split(2, dim=-1)
        boxes = torch.cat([center - size / 2, center + size / 2], dim=-1)
        return [
            _by_expression(boxes[i], probabilities[i], offsets[i], spans[i], threshold) for i in range(len(images))
        ]


def _prompt_text(text: str) -> str:
    """Lower case and without the full stops that part the prompt."""
    return text.casefold().replace(".", " ").strip()


def _joined_prompt(texts: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """ "a cat. a dog." and the characters [start, end) of each expression in it."""
    prompt, spans = "", []
    for text in texts:
        text = _prompt_text(text)
        spans.append((len(prompt), len(prompt) + len(text)))
        prompt += f"{text}. "
    return prompt.strip(), spans


def _by_expression(
    boxes: torch.Tensor,
    probabilities: torch.Tensor,
    offsets: torch.Tensor,
    spans: Sequence[tuple[int, int]],
    threshold: float,
) -> Detections:
    """Each query goes to the expression with its highest probability.

    Args:
        boxes: (Q, 4); probabilities: (Q, ≥ L); offsets: (L, 2) characters of each token, (0, 0) for special ones.
        spans: characters of each expression.
    """
    start, end = offsets.unbind(-1)
    scores = []
    for low, high in spans:
        tokens = (start >= low) & (end <= high) & (end > start)  # (L,)
        inside = probabilities[:, : len(tokens)][:, tokens]
        scores.append(inside.amax(-1) if tokens.any() else torch.zeros(len(boxes)))
    best, expression = torch.stack(scores, dim=-1).max(dim=-1)
    keep = best > threshold
    return Detections(boxes[keep], best[keep], expression[keep].tolist())


class OmDetTurboDetector(_TransformersDetector):
    """OmDet-Turbo (Zhao et al. 2024). Its processor needs torchvision, its backbone timm."""

    @torch.inference_mode()
    def detect(
        self, images: Sequence[Image], expressions: Sequence[Sequence[str]], threshold: float
    ) -> list[Detections]:
        texts = [list(part) for part in expressions]
        inputs = self.processor(images=list(images), text=texts, return_tensors="pt")
        outputs = self.model(**self._to_device(inputs))
        sizes = [(image.height, image.width) for image in images]
        found = self.processor.post_process_grounded_object_detection(
            outputs, threshold=threshold, nms_threshold=1.0, target_sizes=sizes
        )
        return [
            self._fractions(one, image, one["labels"].tolist(), len(part))
            for one, image, part in zip(found, images, texts, strict=True)
        ]


class YoloWorldDetector:
    """YOLO-World (Cheng et al. 2024), as in the paper. Its classes are set per image, so images go one by one."""

    def __init__(self, weights: str, device: str = "auto") -> None:
        try:
            from ultralytics import YOLOWorld
        except ImportError as error:
            raise ImportError(
                f"{weights} is a YOLO-World file, which needs ultralytics (AGPL-3.0): pip install {ULTRALYTICS}. "
                "Or ground with a transformers detector such as google/owlv2-base-patch16-ensemble."
            ) from error
        self.device = str(pick_device(device))
        self.model = YOLOWorld(weights)

    def detect(
        self, images: Sequence[Image], expressions: Sequence[Sequence[str]], threshold: float
    ) -> list[Detections]:
        found = []
        for image, texts in zip(images, expressions, strict=True):
            self.model.set_classes(list(texts))
            # iou=1: overlaps are suppressed once, by us, with one rule for every detector
            (result,) = self.model.predict(image, conf=threshold, iou=1.0, device=self.device, verbose=False)
            boxes = result.boxes
            found.append(Detections(boxes.xyxyn.float().cpu(), boxes.conf.float().cpu(), boxes.cls.long().tolist()))
        return found
