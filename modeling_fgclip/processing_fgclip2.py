"""Processor of FG-CLIP 2: images at their own aspect and patch budget, short, region and long text, boxes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import BatchFeature, ProcessorMixin
from transformers.image_utils import ImageInput

from .boxes import boxes_of_images, image_size
from .full_texts import pad_ids
from .image_input import images_of
from .image_processing_fgclip2 import IMAGE_INPUTS, as_fgclip2
from .text_checks import check_length, check_texts, read_literally, set_lengths


class FGCLIP2Processor(ProcessorMixin):
    """Prepares images, texts and boxes as FG-CLIP 2 was trained on them.

    Args:
        image_processor: an [`FGCLIP2ImageProcessor`], or SigLIP 2's, of which one is made.
        tokenizer: SigLIP 2's (Gemma). Texts are lower-cased here, since the tokenizer alone may not.
        short_text_length: tokens of captions and phrases of regions.
        long_text_length: tokens of long captions.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        short_text_length: int = 64,
        long_text_length: int = 196,
        **kwargs: Any,
    ):
        self.short_text_length = short_text_length
        self.long_text_length = long_text_length
        if tokenizer is not None:
            read_literally(tokenizer)
        super().__init__(None if image_processor is None else as_fgclip2(image_processor), tokenizer, **kwargs)

    def __call__(
        self,
        images: ImageInput | None = None,
        text: str | Sequence[str] | None = None,
        boxes: Any = None,
        long_text: bool = False,
        region_text: bool = False,
        box_format: str = "pixel",
        max_num_patches: int | None = None,
        padding: bool | str = "max_length",
        return_tensors: str = "pt",
        text_kwargs: dict[str, Any] | None = None,
        images_kwargs: dict[str, Any] | None = None,
        common_kwargs: dict[str, Any] | None = None,
        audio_kwargs: dict[str, Any] | None = None,
        videos_kwargs: dict[str, Any] | None = None,
    ) -> BatchFeature:
        """Prepares what it is given for [`FGCLIP2Model`].

        Args:
            images: an image or a list of N: PIL images, arrays, tensors, paths or URLs.
            text: a text or a list of M, English or Chinese.
            boxes: xyxy boxes of the images: for one image K boxes, for a list of images a list of N times K_i boxes.
            long_text: whether the texts are long captions (up to 196 tokens). Longer texts are cut; one more than four
                times too long is refused.
            region_text: whether the texts are phrases of regions, which a head of their own reads.
            box_format: "pixel" (of the original image) or "normalized" (0 to 1).
            max_num_patches: one patch budget for all images; by default each image's own.
            padding: "max_length" pads texts to the limit, true to the longest. The model fills them up, so that
                padding changes no feature.
            return_tensors: only "pt".
            text_kwargs, images_kwargs, common_kwargs, audio_kwargs, videos_kwargs: what libraries that call any
                processor (sentence-transformers) group by modality; `long_text`, `region_text`, `padding` and
                `max_num_patches` are read, truncation is as above, and there is no audio or video.

        Returns:
            BatchFeature with `pixel_values` (N, P, 3 * patch size²), P the largest budget, `pixel_attention_mask`
            (N, P), `spatial_shapes` (N, 2: rows, columns); `input_ids` (M, L) and, for other than short text,
            `walk_type`; `boxes` (N, K, 4) normalized, which is also where they lie on the image's own grid, and
            `box_mask` (N, K).

        Raises:
            ValueError: for an empty or far too long text, and for boxes that do not fit their images.
        """
        grouped = {**(common_kwargs or {}), **(images_kwargs or {}), **(text_kwargs or {})}
        long_text, region_text = grouped.get("long_text", long_text), grouped.get("region_text", region_text)
        padding, return_tensors = grouped.get("padding", padding), grouped.get("return_tensors", return_tensors)
        max_num_patches = grouped.get("max_num_patches", max_num_patches)
        if return_tensors not in ("pt", None):
            raise ValueError(
                f"Received return_tensors={return_tensors!r}; FGCLIP2Processor returns PyTorch tensors ('pt')."
            )
        if images is None and text is None:
            raise ValueError("Received neither images nor text; pass `images`, `text` or both.")
        if boxes is not None and images is None:
            raise ValueError("Received boxes without images; boxes are regions of images.")
        if long_text and region_text:
            raise ValueError("Received long_text and region_text; a text has one head, phrases of regions are short.")
        batch: dict[str, Any] = {}
        if text is not None:
            encoded = self.encode_texts(check_texts(text), long_text, refuse_far_over=True)
            length = self._text_length(long_text) if padding == "max_length" else max(map(len, encoded))
            batch["input_ids"] = pad_ids(encoded, length, self.tokenizer.pad_token_id)
            if long_text or region_text:
                batch["walk_type"] = "long" if long_text else "box"
        if images is not None:
            single = not isinstance(images, (list, tuple))
            image_list = images_of(images)
            batch |= self.image_processor(image_list, max_num_patches=max_num_patches, return_tensors="pt")
            if boxes is not None:
                batch["boxes"], batch["box_mask"] = boxes_of_images(
                    [image_size(image) for image in image_list], [boxes] if single else boxes, box_format
                )
        return BatchFeature(batch)

    def encode_texts(
        self,
        texts: Sequence[str],
        long_text: bool = False,
        refuse_far_over: bool = False,
        lower_case: bool = True,
    ) -> list[list[int]]:
        """Token ids of each text, lower-cased (as in training) and cut to its limit, without padding.

        Args:
            texts: of any length.
            long_text: cut at the long limit (196 tokens) instead of the short one (64).
            refuse_far_over: raise instead of cutting, where a text is longer than even the long limit.
            lower_case: false keeps capitals, which the model was not trained on.

        Raises:
            ValueError: something that is no text, or with `refuse_far_over` a text that is too long.
        """
        texts = check_texts(texts)
        limit = self._text_length(long_text)
        if lower_case:
            texts = [text.lower() for text in texts]
        encoded = self._tokenize(texts, truncation=True, max_length=limit)
        full = [text for text, ids in zip(texts, encoded, strict=True) if len(ids) == limit]
        if refuse_far_over and full:
            longest = max(map(len, self._tokenize(full, truncation=False, verbose=False)))
            check_length(longest, limit, self.long_text_length)
        return encoded

    def _tokenize(self, texts: list[str], **settings: Any) -> list[list[int]]:
        return self.tokenizer(texts, padding=False, **settings)["input_ids"]

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> Any:
        """`ProcessorMixin.save_pretrained`; the tokenizer's file truncates at short text and pads."""
        set_lengths(self.tokenizer, self.short_text_length)
        return super().save_pretrained(save_directory, **kwargs)

    def _text_length(self, long_text: bool) -> int:
        return self.long_text_length if long_text else self.short_text_length

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", *IMAGE_INPUTS, "boxes", "box_mask"]


FGCLIP2Processor.register_for_auto_class()

__all__ = ["FGCLIP2Processor"]
