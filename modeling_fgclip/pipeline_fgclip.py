"""The pipeline `fine-grained-region-classification`: which phrase fits which box of an image."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Pipeline
from transformers.image_utils import load_image

TASK = "fine-grained-region-classification"


class RegionClassificationPipeline(Pipeline):
    """Scores candidate phrases for boxes of an image.

    Phrases may differ in a single attribute ("a light blue mug", "a dark blue mug"): scores are the softmax over the
    phrases of cosine similarity over the regional temperature (paper, equation 3).
    """

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __call__(
        self,
        image: Any = None,
        boxes: Sequence[Sequence[float]] | None = None,
        candidate_labels: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """Classifies boxes of one image, or of several given as dictionaries of the three arguments.

        Args:
            image: a PIL image, a path or URL, or a list of dictionaries with `image`, `boxes`, `candidate_labels`.
            boxes: K xyxy boxes in pixels of the image, or normalized with `box_format="normalized"`.
            candidate_labels: phrases, short text (up to 77 tokens each).
            kwargs: `box_format`, `top_k` (phrases returned a box), `timeout` (seconds, for a URL), `batch_size`.

        Returns:
            For an image K lists, one a box, of `{"label", "score"}` from best to worst; a list of these for several.

        Raises:
            ValueError: without boxes or phrases, and for boxes that do not fit the image.
        """
        if isinstance(image, dict) or (isinstance(image, (list, tuple)) and all(isinstance(i, dict) for i in image)):
            if boxes is not None or candidate_labels is not None:
                raise ValueError(
                    "Received boxes or candidate_labels beside dictionaries; put them into each dictionary as "
                    "{'image': …, 'boxes': …, 'candidate_labels': …}."
                )
            return super().__call__(image, **kwargs)
        return super().__call__({"image": image, "boxes": boxes, "candidate_labels": candidate_labels}, **kwargs)

    def _sanitize_parameters(
        self, box_format: str = "pixel", top_k: int | None = None, timeout: float | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise ValueError(
                f"Received the unknown arguments {sorted(unknown)}; {TASK} knows box_format, top_k, timeout, batch_size."
            )
        return {"box_format": box_format, "timeout": timeout}, {}, {"top_k": top_k}

    def preprocess(
        self, inputs: dict[str, Any], box_format: str = "pixel", timeout: float | None = None
    ) -> dict[str, Any]:
        for name, what in {
            "image": "an image",
            "boxes": "at least one box (x1, y1, x2, y2)",
            "candidate_labels": "phrases",
        }.items():
            value = inputs.get(name)
            if value is None or (name != "image" and len(value) == 0):
                raise ValueError(
                    f"Received {name}={value!r}; {TASK} needs {what}: pipe(image, boxes=[[x1, y1, x2, y2]], "
                    "candidate_labels=['a red mug', 'a blue mug'])."
                )
        labels = list(inputs["candidate_labels"])
        image = load_image(inputs["image"], timeout=timeout)
        prepared = self.processor(
            images=image, text=labels, boxes=inputs["boxes"], box_format=box_format, region_text=True
        )
        prepared["pixel_values"] = prepared["pixel_values"].to(self.dtype)
        return {"candidate_labels": labels, **prepared}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        labels = model_inputs.pop("candidate_labels")
        if labels and isinstance(labels[0], list):
            raise ValueError(
                f"{TASK} takes images one at a time, since each has phrases of its own; use batch_size=1."
            )
        output = self.model(**model_inputs)
        logits = output.region_embeds[0].float() @ output.text_embeds.float().t() * output.scales[1].float()
        return {"candidate_labels": labels, "logits": logits}  # (K, phrases)

    def postprocess(self, model_outputs: dict[str, Any], top_k: int | None = None) -> list[list[dict[str, Any]]]:
        labels = model_outputs["candidate_labels"]
        scores = model_outputs["logits"].softmax(dim=-1)
        best = torch.topk(scores, k=len(labels) if top_k is None else min(top_k, len(labels)), dim=-1)
        return [
            [{"label": labels[index], "score": score} for index, score in zip(row, row_scores, strict=True)]
            for row, row_scores in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


__all__ = ["TASK", "RegionClassificationPipeline"]
