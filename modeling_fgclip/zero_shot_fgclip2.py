"""transformers' zero-shot image classification with FG-CLIP 2's protocol: lower case, and a sigmoid for each label.

transformers recognizes sigmoid models by the letters "siglip" in their type; FG-CLIP 2's is `fgclip2`, and its pipeline
would take a softmax over the labels. This class is transformers' own for every other model.
"""

from typing import Any

from transformers import ZeroShotImageClassificationPipeline
from transformers.pipelines import PIPELINE_REGISTRY

TASK = "zero-shot-image-classification"


class SigmoidZeroShotPipeline(ZeroShotImageClassificationPipeline):
    @property
    def _is_fgclip2(self) -> bool:
        return self.model.config.model_type == "fgclip2"

    def preprocess(self, image: Any, candidate_labels: Any = None, **kwargs: Any) -> dict[str, Any]:
        if not self._is_fgclip2:
            return super().preprocess(image, candidate_labels, **kwargs)
        template = kwargs.pop("hypothesis_template", "This is a photo of {}.")
        # The template belongs to the text as well, so the labels are put into it here.
        texts = [template.format(label).lower() for label in candidate_labels]
        limit = self.model.config.text_config.max_position_embeddings
        settings = {"padding": "max_length", "max_length": limit, "truncation": True}
        inputs = super().preprocess(image, texts, hypothesis_template="{}", tokenizer_kwargs=settings, **kwargs)
        return inputs | {"candidate_labels": candidate_labels}

    def postprocess(self, model_outputs: dict[str, Any]) -> list[dict[str, Any]]:
        if not self._is_fgclip2:
            return super().postprocess(model_outputs)
        scores = model_outputs["logits"][0].float().sigmoid().tolist()
        pairs = zip(scores, model_outputs["candidate_labels"], strict=True)
        return [{"score": score, "label": label} for score, label in sorted(pairs, key=lambda pair: -pair[0])]


def register() -> None:
    """Puts the class in the place of transformers' own for the task."""
    PIPELINE_REGISTRY.supported_tasks[TASK]["impl"] = SigmoidZeroShotPipeline


__all__ = ["SigmoidZeroShotPipeline", "register"]
