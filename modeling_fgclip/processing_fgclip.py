"""Processor of FG-CLIP: images squashed to a square, short and long text, boxes."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import BatchFeature, ProcessorMixin
from transformers.image_utils import ImageInput
from transformers.processing_utils import ImagesKwargs, ProcessingKwargs, TextKwargs

from .boxes import boxes_of_images, image_size
from .image_input import images_of
from .text_checks import check_length, check_texts, read_literally, set_lengths

try:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
except ImportError as error:
    raise ImportError("FG-CLIP needs transformers 5.17 or newer: `pip install --upgrade transformers`.") from error

AUTO = "auto"
# What transformers calls the two: a text has no second part to cut.
TRUNCATION = (True, "longest_first", "only_first")
NO_TRUNCATION = (False, "do_not_truncate")


class FGCLIPTextKwargs(TextKwargs, total=False):
    long_text: bool | str
    region_text: bool


class FGCLIPProcessorKwargs(ProcessingKwargs, total=False):
    text_kwargs: FGCLIPTextKwargs
    _defaults = {  # noqa: RUF012
        "text_kwargs": {"padding": True, "truncation": True, "return_attention_mask": False, "long_text": False},
        "common_kwargs": {"return_tensors": "pt"},
    }


class FGCLIPProcessor(ProcessorMixin):
    """Prepares images, texts and boxes as FG-CLIP was trained on them.

    Args:
        image_processor: CLIP's; whatever it did before, images are squashed to S x S with bicubic interpolation and
            never cropped. S is the size the checkpoint was saved with.
        tokenizer: CLIP's. Texts are padded with its end token, and special tokens in a text are plain characters.
        short_text_length: tokens of short text, start and end included.
        long_text_length: tokens of long text.
    """

    valid_processor_kwargs = FGCLIPProcessorKwargs

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
        if tokenizer is not None:
            read_literally(tokenizer)
            if tokenizer.pad_token_id != tokenizer.eos_token_id:
                # What published checkpoints were padded with; any token would do, as nothing behind the end is read.
                tokenizer.pad_token = tokenizer.eos_token
        super().__init__(_squashing(image_processor), tokenizer, **kwargs)

    @property
    def image_size(self) -> int:
        """S, the side of the square that images are squashed to."""
        return self.image_processor.size["height"]

    def __call__(
        self,
        images: ImageInput | str | Path | Sequence[str | Path] | None = None,
        text: str | Sequence[str] | None = None,
        boxes: Any = None,
        box_format: str = "pixel",
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepares what it is given for [`FGCLIPModel`].

        Args:
            images: an image or a list of N: PIL images, arrays, tensors, paths or URLs. Float arrays from 0 to 1 are
                read as such.
            text: a text or a list of M.
            boxes: xyxy boxes of the images: for one image K boxes, for a list of images a list of N times K_i boxes.
            box_format: "pixel" (of the original image) or "normalized" (0 to 1).
            kwargs: as of any processor, plain or grouped (`text_kwargs`, `images_kwargs`, `common_kwargs`):

                - `long_text`: whether the texts are long captions (up to 248 tokens) or short ones (up to 77); "auto"
                  decides for each text, long where it has more than 77.
                - `region_text`: whether the texts are phrases of regions: to FG-CLIP these are short texts, to FG-CLIP 2 a
                  kind of their own.
                - `padding`: true pads to the longest text, "max_length" to the limit. Padding changes no feature.
                - `truncation`: true cuts longer texts at the limit, with a warning; one more than four times too long is
                  refused. `max_length` lowers the limit.
                - `return_tensors`: "pt", "np", or None for lists.
                - `device`: where tensors are put. `do_rescale`, `do_normalize`, `size`, …: of the image processor.

        Returns:
            BatchFeature with `pixel_values` (N, 3, S, S); `input_ids` (M, L) and, for long text,
            `walk_short_pos`: false, or with "auto" (M,); `boxes` (N, K, 4) normalized and `box_mask` (N, K).

        Raises:
            ValueError: for what is no text or image, an empty or far too long text, boxes that do not fit their images,
                and an unknown argument.
        """
        self._check_order(images, text)
        if images is None and text is None:
            raise ValueError("Received neither images nor text; pass `images`, `text` or both.")
        if boxes is not None and images is None:
            raise ValueError("Received boxes without images; boxes are regions of images.")
        settings = self._settings(kwargs)
        device = _device(settings["images_kwargs"].pop("device", None))
        batch: dict[str, Any] = {}
        if text is not None:
            batch |= self._prepare_texts(check_texts(text), **settings["text_kwargs"])
        if images is not None:
            single = not isinstance(images, (list, tuple))
            image_list = images_of(images, scaled=settings["images_kwargs"].get("do_rescale") is False)
            batch |= self.image_processor(image_list, **settings["images_kwargs"])
            if boxes is not None:
                prepared = boxes_of_images(
                    [image_size(image) for image in image_list], [boxes] if single else boxes, box_format
                )
                kind = settings["images_kwargs"]["return_tensors"]
                batch["boxes"], batch["box_mask"] = (_as_kind(tensor, kind) for tensor in prepared)
        prepared = BatchFeature(batch)
        return prepared if device is None else prepared.to(device)

    def encode_texts(
        self, texts: Sequence[str], long_text: bool = False, refuse_far_over: bool = False
    ) -> list[list[int]]:
        """Token ids of each text from start to end token, cut to its limit, without padding.

        Args:
            texts: of any length.
            long_text: cut at the long limit (248 tokens) instead of the short one (77).
            refuse_far_over: raise instead of cutting, where a text is longer than even the long limit.

        Raises:
            ValueError: something that is no text, or with `refuse_far_over` a text that is too long.
        """
        encoded, lengths = self._encode(check_texts(texts), self._text_length(long_text))
        if refuse_far_over:
            check_length(max(lengths), self._text_length(long_text), self.long_text_length)
        return encoded["input_ids"]

    def _settings(self, kwargs: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Keyword arguments by modality, with the defaults."""
        known = {
            *FGCLIPTextKwargs.__annotations__,
            *TextKwargs.__annotations__,
            *ImagesKwargs.__annotations__,
            *("text_kwargs", "images_kwargs", "common_kwargs", "audio_kwargs", "videos_kwargs"),
        }
        if unknown := sorted(kwargs.keys() - known):
            raise ValueError(
                f"Received the unknown arguments {unknown}; FGCLIPProcessor takes images, text, boxes, box_format, "
                "long_text, padding, truncation, max_length, return_tensors, device and the image processor's settings."
            )
        given = {name: value for name, value in kwargs.items() if value is not None or name == "return_tensors"}
        try:
            settings = self._merge_kwargs(FGCLIPProcessorKwargs, tokenizer_init_kwargs={}, **given)
        except StrictDataclassError as error:
            raise ValueError(f"Received an argument of a wrong type: {' '.join(str(error).split())}.") from None
        images_kwargs = settings["images_kwargs"]
        if images_kwargs.get("do_center_crop"):
            raise ValueError("Received do_center_crop=True; FG-CLIP sees whole images, squashed to a square.")
        if "size" in images_kwargs:
            images_kwargs["size"] = _square(images_kwargs["size"])
        return settings

    def _prepare_texts(
        self,
        texts: list[str],
        long_text: bool | str = False,
        region_text: bool = False,
        max_length: int | None = None,
        truncation: bool | str = True,
        **settings: Any,
    ) -> dict[str, Any]:
        if long_text not in (True, False, AUTO):
            raise ValueError(f"Received long_text={long_text!r}; it is True, False or {AUTO!r}.")
        if long_text and region_text:
            raise ValueError("Received long_text and region_text; phrases of regions are short.")
        if max_length is not None and (not isinstance(max_length, int) or max_length < 3):
            raise ValueError(f"Received max_length={max_length!r}; it is a number of tokens, start and end included.")
        if truncation not in TRUNCATION and truncation not in NO_TRUNCATION:
            raise ValueError(f"Received truncation={truncation!r}; it is True or False.")
        is_long = long_text
        if long_text == AUTO:
            _, lengths = self._encode(texts, self.long_text_length)
            are_long = [length > self.short_text_length for length in lengths]
            is_long = any(are_long)
        limit = self._text_length(is_long)
        if max_length is not None and max_length > limit:
            advice = "." if is_long else f"; pass long_text=True for up to {self.long_text_length}."
            raise ValueError(
                f"Received max_length={max_length}; {'long' if is_long else 'short'} text has {limit} positions{advice}"
            )
        limit = max_length or limit
        encoded, lengths = self._encode(texts, limit, **settings)
        check_length(max(lengths), self._text_length(is_long), self.long_text_length)
        longer = sum(length > limit for length in lengths)
        advice = "" if is_long else f" Pass long_text=True for up to {self.long_text_length} tokens."
        what = f"{longer} of {len(texts)} texts are longer than {limit} tokens (the longest has {max(lengths)})"
        if longer and truncation in NO_TRUNCATION:
            raise ValueError(f"Received truncation={truncation!r}, but {what}.{advice}")
        if longer and max_length is None:
            warnings.warn(f"{what} and were cut.{advice}", stacklevel=3)
        prepared = dict(encoded)
        if long_text == AUTO:
            prepared["walk_short_pos"] = _as_kind(~torch.tensor(are_long), settings.get("return_tensors"))
        elif long_text:
            prepared["walk_short_pos"] = False
        return prepared

    def _encode(self, texts: list[str], limit: int, **settings: Any) -> tuple[Any, list[int]]:
        """The tokenizer's output, cut at `limit`, and how many tokens each text has uncut."""
        defaults = {"padding": False, "return_attention_mask": False}
        encoded = self.tokenizer(texts, truncation=True, max_length=limit, **(defaults | settings))
        lengths = [
            sum(encoding.attention_mask) + sum(sum(more.attention_mask) - 2 for more in encoding.overflowing)
            for encoding in encoded.encodings
        ]
        return encoded, lengths

    @staticmethod
    def _check_order(images: Any, text: Any) -> None:
        """Processors of transformers 4 took the text first."""
        first = text[0] if isinstance(text, (list, tuple)) and text else text
        if hasattr(first, "getbands") or (hasattr(first, "shape") and getattr(first, "ndim", 0) >= 2):
            raise ValueError(
                "Received an image as text: since transformers 5 the order is processor(images, text). Name the "
                "arguments: processor(text=…, images=…)."
            )

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> Any:
        """`ProcessorMixin.save_pretrained`; the tokenizer's file truncates at short text and pads."""
        set_lengths(self.tokenizer, self.short_text_length)
        return super().save_pretrained(save_directory, **kwargs)

    def _text_length(self, long_text: bool) -> int:
        return self.long_text_length if long_text else self.short_text_length

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "pixel_values", "boxes", "box_mask"]


def _as_kind(tensor: torch.Tensor, kind: str | None) -> Any:
    """A tensor as "pt", "np" or None, a list."""
    if kind is None:
        return tensor.tolist()
    return tensor.numpy() if kind == "np" else tensor


def _device(device: Any) -> torch.device | None:
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"Received device={device!r}; torch knows no such device.") from None


def _square(size: Any) -> dict[str, int]:
    """A size as transformers writes it, of the square that images are squashed to."""
    side = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge") or size.get("width")
    return {"height": side, "width": side}


def _squashing(image_processor: Any) -> Any:
    """The same image processor, but squashing to S x S, and by PIL, which the published numbers were made with."""
    if image_processor is None:
        return None
    settings = image_processor.to_dict()
    for name in ("image_processor_type", "feature_extractor_type", "size", "crop_size", "do_center_crop"):
        settings.pop(name, None)
    return CLIPImageProcessorPil(**settings, size=_square(image_processor.size), do_center_crop=False)


FGCLIPProcessor.register_for_auto_class()

__all__ = ["FGCLIPProcessor"]
