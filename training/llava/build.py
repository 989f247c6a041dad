"""Puts an image encoder, a random projector and a language model together as transformers' LLaVA.

The folder loads with AutoModelForImageTextToText and AutoProcessor; no code of ours is needed there.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from dataset_scripts.formats.llava import IMAGE_FITS
from modeling_fgclip.conversion import load_any
from modeling_fgclip.vision_tower import vision_tower

from .template import IMAGE, VICUNA_V1

DTYPES = ("float32", "bfloat16", "float16")
# Embeddings are added in blocks of so many, as in llava-hf's checkpoints.
_VOCABULARY_BLOCK = 64

Tower = tuple[PreTrainedModel, Any]


def build_llava(
    tower: str | Path | Tower,
    language_model: str | Path | PreTrainedModel,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    image_fit: str = "pad",
    feature_layer: int = -2,
    dtype: str | None = None,
    seed: int = 0,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A LLaVA-1.5 whose projector has random weights, and its processor.

    Args:
        tower: folder or Hub id of an FG-CLIP, FG-CLIP 2, CLIP or SigLIP, or what [`vision_tower`] returns: a
            CLIPVisionModel or SiglipVisionModel and its image processor.
        language_model: folder or Hub id of any causal language model, or the model.
        tokenizer: by default the language model's.
        image_fit: how an image of any shape becomes a square: `pad` with the mean color around it, as LLaVA finetunes
            and answers; `squash` to a square, as FG-CLIP was trained; `crop` the middle out, as LLaVA pretrains.
        feature_layer: of the encoder's hidden states (LLaVA: -2); the class token is dropped.
        dtype: float32, bfloat16 or float16 for all weights; by default the language model's own.
        seed: of the projector, and of embeddings that are added.

    Raises:
        ValueError: no encoder, a setting out of range, or a language model that LLaVA's head cannot stand for.
    """
    if image_fit not in IMAGE_FITS:
        raise ValueError(f"Received image_fit={image_fit!r}; it is one of {', '.join(IMAGE_FITS)}.")
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"Received dtype={dtype!r}; it is one of {', '.join(DTYPES)}.")
    encoder, images = _encoder(tower)
    layers = encoder.config.num_hidden_layers
    if not -layers - 1 <= feature_layer <= layers:
        raise ValueError(
            f"Received feature_layer={feature_layer}; the encoder has {layers} layers: {-layers - 1} to {layers}."
        )
    language_model, tokenizer = _language_model(language_model, tokenizer, dtype)
    encoder = encoder.to(language_model.dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _add_tokens(language_model, tokenizer)
        model = _assemble(encoder, language_model, tokenizer, feature_layer)
    processor = LlavaProcessor(
        _image_processor(encoder.config.image_size, images, image_fit),
        tokenizer,
        patch_size=encoder.config.patch_size,
        vision_feature_select_strategy=model.config.vision_feature_select_strategy,
        num_additional_image_tokens=_class_tokens(encoder.config),
        chat_template=VICUNA_V1,
        image_token=IMAGE,
    )
    return model.eval(), processor


def _encoder(tower: str | Path | Tower) -> Tower:
    if isinstance(tower, (str, Path)):
        tower = _read_encoder(str(tower))
    model, images = tower if isinstance(tower, tuple) and len(tower) == 2 else (tower, None)
    config = model if isinstance(model, PreTrainedConfig) else getattr(model, "config", None)
    if not isinstance(model, PreTrainedModel) or not isinstance(config, (CLIPVisionConfig, SiglipVisionConfig)):
        raise ValueError(
            f"Received {type(model).__name__} as the tower; LLaVA needs the image encoder alone. Give the checkpoint's "
            "folder or Hub id, or modeling_fgclip.vision_tower.vision_tower(model, processor)."
        )
    if images is None:
        raise ValueError("Received an image encoder without its image processor; give both: (encoder, processor).")
    return model, images


def _read_encoder(checkpoint: str) -> Tower:
    model_type = PreTrainedConfig.get_config_dict(checkpoint)[0].get("model_type")
    if model_type == "siglip":
        return SiglipVisionModel.from_pretrained(checkpoint), AutoImageProcessor.from_pretrained(checkpoint)
    if model_type in ("clip_vision_model", "siglip_vision_model"):
        return AutoModel.from_pretrained(checkpoint), AutoImageProcessor.from_pretrained(checkpoint)
    model, processor, _ = load_any(checkpoint)
    return vision_tower(model, processor)


def _language_model(
    model: str | Path | PreTrainedModel, tokenizer: str | Path | PreTrainedTokenizerBase | None, dtype: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if tokenizer is None:
        if not isinstance(model, (str, Path)):
            raise ValueError("Received a language model without a name; give its tokenizer as well.")
        tokenizer = model
    if isinstance(tokenizer, (str, Path)):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    if tokenizer.bos_token is None or tokenizer.eos_token is None:
        raise ValueError(
            f"Received a tokenizer with bos_token={tokenizer.bos_token!r} and eos_token={tokenizer.eos_token!r}; "
            "LLaVA begins each text with the one and ends each answer with the other. Set both."
        )
    if isinstance(model, (str, Path)):
        model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype or "auto")
    elif dtype is not None:
        model = model.to(getattr(torch, dtype))
    return model, tokenizer


def _add_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """`<image>` and a padding token where the tokenizer lacks them, and embeddings for all of its tokens."""
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.padding_side = "left"  # batched generation needs it; the collators of training say theirs
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=_VOCABULARY_BLOCK)


def _assemble(
    encoder: PreTrainedModel, language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, feature_layer: int
) -> LlavaForConditionalGeneration:
    if language_model.config.tie_word_embeddings and not hasattr(language_model.base_model, "embed_tokens"):
        raise ValueError(
            f"{type(language_model).__name__} shares its embeddings with its head under names that LLaVA's classes do "
            "not know. Take another language model, such as a Llama."
        )
    attention, before = language_model.config._attn_implementation, _logits(language_model)
    vision = encoder.config
    has_class = bool(_class_tokens(vision))
    config = LlavaConfig(
        vision_config=vision,
        text_config=language_model.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        vision_feature_select_strategy="default" if has_class else "full",
        vision_feature_layer=feature_layer,
        tie_word_embeddings=language_model.config.tie_word_embeddings,
        dtype=language_model.dtype,
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = encoder
    model.model.language_model = language_model.base_model
    model.lm_head = language_model.get_output_embeddings()
    # LLaVA's projector begins with torch's own random weights, not with those of transformers.
    model.model.multi_modal_projector = LlavaMultiModalProjector(config).to(language_model.dtype)
    model.tie_weights()
    model.set_attn_implementation(attention)
    if getattr(model.lm_head, "bias", None) is not None or not torch.equal(before, _logits(model.eval())):
        raise ValueError(
            f"{type(language_model).__name__} makes its logits otherwise than by one matrix (a bias, a scale or a soft "
            "cap), which LLaVA's classes in transformers do not have. Take another language model, such as a Llama."
        )
    model.generation_config = language_model.generation_config
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


@torch.no_grad()
def _logits(model: PreTrainedModel) -> torch.Tensor:
    return model.eval()(input_ids=torch.arange(3, 8, device=model.device)[None]).logits


def _class_tokens(vision: PreTrainedConfig) -> int:
    return int(isinstance(vision, CLIPVisionConfig))


def _image_processor(size: int, images: Any, image_fit: str) -> LlavaImageProcessorPil:
    """Of LLaVA's class in all three ways; `pad` equals LLaVA's expand2square and CLIP's processor bit for bit."""
    kept = ("resample", "rescale_factor", "image_mean", "image_std")
    square = {"height": size, "width": size}
    return LlavaImageProcessorPil(
        size=square if image_fit == "squash" else {"shortest_edge": size},
        crop_size=square,
        do_center_crop=image_fit != "squash",
        do_pad=image_fit == "pad",
        do_convert_rgb=True,
        image_fit=image_fit,
        **{name: getattr(images, name) for name in kept},
    )
