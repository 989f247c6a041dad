"""Processor of FG-CLIP: images squashed to a square, short and long text, boxes."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.image_utils import ImageInput, make_flat_list_of_images

from .boxes import boxes_of_images, image_size
from .pixels import prepared_image
from .text_checks import check_length, check_texts

try:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
except ImportError as error:
    raise ImportError("FG-CLIP needs transformers 5.17 or newer: `pip install --upgrade transformers`.") from error


class FGCLIPProcessor(ProcessorMixin):
    """Prepares images, texts and boxes as FG-CLIP was trained on them.

    Args:
        image_processor: CLIP's; whatever it did before, images are squashed to S x S with bicubic interpolation and
            never cropped. S is the size the checkpoint was saved with.
        tokenizer: CLIP's.
        short_text_length: tokens of short text, start and end included.
        long_text_length: tokens of long text.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        short_text_length: int = 77,
        long_text_length: int = 248,
        **kwargs: Any,
    ):
        self.short_text_length = short_text_length
        self.long_text_length = long_text_length
        super().__init__(_squashing(image_processor), tokenizer, **kwargs)

    @property
    def image_size(self) -> int:
        """S, the side of the square that images are squashed to."""
        return self.image_processor.size["height"]

    def __call__(
        self,
        images: ImageInput | None = None,
        text: str | Sequence[str] | None = None,
        boxes: Any = None,
        long_text: bool = False,
        region_text: bool = False,
        box_format: str = "pixel",
        padding: bool | str = True,
        return_tensors: str = "pt",
        text_kwargs: dict[str, Any] | None = None,
        images_kwargs: dict[str, Any] | None = None,
        common_kwargs: dict[str, Any] | None = None,
        audio_kwargs: dict[str, Any] | None = None,
        videos_kwargs: dict[str, Any] | None = None,
    ) -> BatchFeature:
        """Prepares what it is given for [`FGCLIPModel`].

        Args:
            images: an image or a list of N.
            text: a text or a list of M.
            boxes: xyxy boxes of the images: for one image K boxes, for a list of images a list of N times K_i boxes.
            long_text: whether the texts are long captions (up to 248 tokens) or short ones (up to 77). Longer texts
                are cut; one more than four times too long is refused.
            region_text: whether the texts are phrases of regions: to FG-CLIP these are short texts, to FG-CLIP 2 a kind of
                their own.
            box_format: "pixel" (of the original image) or "normalized" (0 to 1).
            padding: true pads to the longest text, "max_length" to the limit. Padding changes no feature.
            return_tensors: only "pt".
            text_kwargs, images_kwargs, common_kwargs, audio_kwargs, videos_kwargs: what libraries that call any
                processor (sentence-transformers) group by modality; `long_text` and `padding` are read, truncation is
                as above, and there is no audio or video to apply settings to.

        Returns:
            BatchFeature with `pixel_values` (N, 3, S, S); `input_ids` (M, L) and, for long text,
            `walk_short_pos=False`; `boxes` (N, K, 4) normalized and `box_mask` (N, K).

        Raises:
            ValueError: for an empty or far too long text, and for boxes that do not fit their images.
        """
        grouped = {**(common_kwargs or {}), **(images_kwargs or {}), **(text_kwargs or {})}
        long_text, region_text = grouped.get("long_text", long_text), grouped.get("region_text", region_text)
        padding = grouped.get("padding", padding)
        return_tensors = grouped.get("return_tensors", return_tensors)
        if return_tensors not in ("pt", None):
            raise ValueError(
                f"Received return_tensors={return_tensors!r}; FGCLIPProcessor returns PyTorch tensors ('pt')."
            )
        if images is None and text is None:
            raise ValueError("Received neither images nor text; pass `images`, `text` or both.")
        if boxes is not None and images is None:
            raise ValueError("Received boxes without images; boxes are regions of images.")
        if long_text and region_text:
            raise ValueError("Received long_text and region_text; phrases of regions are short.")
        batch: dict[str, Any] = {}
        if text is not None:
            encoded = self.encode_texts([text] if isinstance(text, str) else text, long_text, refuse_far_over=True)
            batch["input_ids"] = self._pad_texts(
                encoded, self._text_length(long_text) if padding == "max_length" else 0
            )
            if long_text:
                batch["walk_short_pos"] = False
        if images is not None:
            single = not isinstance(images, (list, tuple))
            image_list = [prepared_image(image) for image in make_flat_list_of_images(images)]
            batch["pixel_values"] = self.image_processor(image_list, return_tensors="pt")["pixel_values"]
            if boxes is not None:
                batch["boxes"], batch["box_mask"] = boxes_of_images(
                    [image_size(image) for image in image_list], [boxes] if single else boxes, box_format
                )
        return BatchFeature(batch)

    def encode_texts(
        self, texts: Sequence[str], long_text: bool = False, refuse_far_over: bool = False
    ) -> list[list[int]]:
        """Token ids of each text from start to end token, cut to its limit, without padding."""
        check_texts(texts)
        limit = self._text_length(long_text)
        encoded = self.tokenizer(list(texts), truncation=False, padding=False, verbose=False)["input_ids"]
        if refuse_far_over:
            check_length(max(len(ids) for ids in encoded), limit, self.long_text_length)
        end = self.tokenizer.eos_token_id
        return [ids if len(ids) <= limit else [*ids[: limit - 1], end] for ids in encoded]

    def _text_length(self, long_text: bool) -> int:
        return self.long_text_length if long_text else self.short_text_length

    def _pad_texts(self, encoded: list[list[int]], at_least: int) -> torch.Tensor:
        length = max(at_least, max(len(ids) for ids in encoded))
        # With the end token, which is also what published checkpoints were padded with.
        padded = torch.full((len(encoded), length), self.tokenizer.eos_token_id)
        for row, ids in zip(padded, encoded, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return padded

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "pixel_values", "boxes", "box_mask"]


def _squashing(image_processor: Any) -> Any:
    """The same image processor, but squashing to S x S, and by PIL, which the published numbers were made with."""
    if image_processor is None:
        return None
    size = image_processor.size
    side = size.get("height") or size.get("shortest_edge") or size.get("width")
    settings = image_processor.to_dict()
    for name in ("image_processor_type", "feature_extractor_type", "size", "crop_size", "do_center_crop"):
        settings.pop(name, None)
    return CLIPImageProcessorPil(**settings, size={"height": side, "width": side}, do_center_crop=False)


FGCLIPProcessor.register_for_auto_class()

__all__ = ["FGCLIPProcessor"]
