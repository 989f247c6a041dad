"""FG-CLIP: CLIP with long text, dense features and region features (Xie et al., ICML 2025)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .boxes import check_boxes, pad_boxes
from .checked_loading import CheckedLoading
from .configuration_fgclip import FGCLIPConfig
from .initialization import InitializedAsTransformers
from .integrations import SavesWhole
from .named_inputs import check_others, require
from .output import FGCLIPOutput
from .packed_text import PackedTexts
from .region_pooling import boxes_on_map, pool_regions, pool_seen_regions
from .text_encoder import FGCLIPTextModel
from .vision_encoder import FGCLIPVisionModel

# What `_init_weights` makes of the rest of a checkpoint: from the short text positions, …
STRETCHED = (
    "text_model.embeddings.position_embedding_ori.weight",
    "text_model.embeddings.position_embedding_res.weight",
)
# … and from another tensor.
COPIED_PROJECTION = {"text_filip_projection.weight": "text_projection.weight"}
COPIED_TEMPERATURES = {"logit_scale_finegraind": "logit_scale", "logit_scale_hardneg": "logit_scale"}
COPIED = {**COPIED_PROJECTION, **COPIED_TEMPERATURES}


class FGCLIPModel(CheckedLoading, SavesWhole, InitializedAsTransformers, CLIPModel):
    """FG-CLIP dual encoder.

    Loads its own checkpoints, published FG-CLIP ones, and any transformers CLIP checkpoint, whose positions are then
    stretched for long text and whose projection and temperature are copied (section 3.1).
    """

    config: FGCLIPConfig
    config_class = FGCLIPConfig
    may_lack = (
        # A published FG-CLIP may lack temperatures, …
        *(frozenset([name]) for name in COPIED_TEMPERATURES),
        frozenset(COPIED_TEMPERATURES),
        # … and a CLIP lacks all that is ours.
        frozenset([*STRETCHED, *COPIED_PROJECTION, *COPIED_TEMPERATURES]),
    )

    def __init__(self, config: FGCLIPConfig):
        # Past CLIPModel, which would build its own encoders and initialize weights before the rest is here.
        super(CLIPModel, self).__init__(config)
        self.projection_dim = config.projection_dim
        self.text_embed_dim = config.text_config.hidden_size
        self.vision_embed_dim = config.vision_config.hidden_size
        self.text_model = FGCLIPTextModel._from_config(config.text_config)
        self.vision_model = FGCLIPVisionModel._from_config(config.vision_config)
        self.visual_projection = nn.Linear(self.vision_embed_dim, self.projection_dim, bias=False)
        self.text_projection = nn.Linear(self.text_embed_dim, self.projection_dim, bias=False)
        self.text_filip_projection = nn.Linear(self.text_embed_dim, self.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        # The misspelling is part of every published checkpoint.
        self.logit_scale_finegraind = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.logit_scale_hardneg = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, FGCLIPModel):
            init.constant_(module.logit_scale, module.config.logit_scale_init_value)
            init.copy_(module.text_filip_projection.weight, module.text_projection.weight)
            init.copy_(module.logit_scale_finegraind, module.logit_scale)
            init.copy_(module.logit_scale_hardneg, module.logit_scale)

    @classmethod
    def from_clip(cls, clip: str | CLIPModel, **kwargs) -> "FGCLIPModel":
        """Creates an FG-CLIP from a transformers CLIP: a repository id, a folder or a model in memory.

        Args:
            clip: the CLIP to start from.
            kwargs: passed on to `from_pretrained` (`revision`, `dtype`, `attn_implementation`, …).
        """
        if not isinstance(clip, CLIPModel):
            return cls.from_pretrained(clip, **kwargs)
        config_dict = {**clip.config.to_dict(), "model_type": FGCLIPConfig.model_type}
        config = FGCLIPConfig.from_dict(config_dict)
        return cls.from_pretrained(None, config=config, state_dict=clip.state_dict(), **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding, which quantization asks for."""
        return self.text_model.embeddings.token_embedding

    def get_image_features(
        self,
        pixel_values: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        **others: Any,
    ) -> torch.Tensor | BaseModelOutputWithPooling:
        """(N, 3, height, width) images to (N, D) features, not normalized. Sides are multiples of the patch size.

        Args:
            interpolate_pos_encoding: resample positions for another resolution than the trained one; false refuses it.
            output_attentions, output_hidden_states: return an output with them, as `return_dict` does.
            return_dict: true for transformers' output object, whose `pooler_output` are the features.
            others: what a processor returns beside `pixel_values`; not read.
        """
        check_others(others)
        require(pixel_values, "pixel_values", "get_image_features")
        if not (return_dict or output_attentions or output_hidden_states):
            trunk = self.vision_model.trunk(pixel_values, interpolate_pos_encoding)
            return self.visual_projection(self.vision_model.pool(trunk))
        self._check_attentions(output_attentions)
        output, _ = self.vision_model.whole(
            pixel_values, interpolate_pos_encoding, output_attentions, output_hidden_states
        )
        output.pooler_output = self.visual_projection(output.pooler_output)
        return output.to_tuple() if return_dict is False else output

    def get_text_features(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        walk_short_pos: bool | torch.Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
        **others: Any,
    ) -> torch.Tensor | BaseModelOutputWithPooling:
        """(N, L) padded token ids to (N, D) features, not normalized, pooled at the first end-of-text token.

        Args:
            attention_mask: not needed: nothing behind the end of a text can reach it.
            walk_short_pos: true for short text (up to 77 tokens), false for long text (248 positions and a projection
                of its own); a (N,) tensor chooses for each text. None reads texts of more than 77 tokens as long text.
            output_attentions, output_hidden_states: return an output with them, as `return_dict` does.
            return_dict: true for transformers' output object, whose `pooler_output` are the features.
            others: what a processor returns beside the texts; not read.
        """
        check_others(others)
        require(input_ids, "input_ids", "get_text_features")
        output, is_short = self._encode_text(
            input_ids, attention_mask, walk_short_pos, output_attentions, output_hidden_states
        )
        features = self._project_text(output.pooler_output, is_short)
        if not (return_dict or output_attentions or output_hidden_states):
            return features
        output.pooler_output = features
        return output.to_tuple() if return_dict is False else output

    def _encode_text(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        walk_short_pos: bool | torch.Tensor | None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> tuple[BaseModelOutputWithPooling, torch.Tensor]:
        """CLIP's output of the text encoder, and (N, 1) which texts are short."""
        self._check_attentions(output_attentions)
        input_ids, positions, is_short = self._place_texts(input_ids, walk_short_pos)
        position_ids = self.text_model.position_ids_of(positions, ~is_short).expand_as(input_ids)
        if attention_mask is not None:
            more = input_ids.shape[1] - attention_mask.shape[1]
            attention_mask = F.pad(attention_mask, (0, more), value=1)  # cuts where it is negative
        output = self.text_model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        return output, is_short

    def get_packed_text_features(self, packed_texts: PackedTexts) -> torch.Tensor:
        """(N, D) features, not normalized, of texts packed by `pack_texts`, in the order they were given in."""
        pooled = self.text_model.pool_packed(packed_texts)
        is_long = packed_texts["long_text"][packed_texts["restore"]]
        return self._project_text(pooled, ~is_long.unsqueeze(-1))

    def get_image_dense_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, 3, height, width) images to (N, H * W, D) patch features, row by row, not normalized."""
        return self._dense_of(self.vision_model.trunk(pixel_values)[:, 1:])

    def get_region_features(
        self,
        pixel_values: torch.Tensor,
        boxes: torch.Tensor | list[torch.Tensor],
        box_mask: torch.Tensor | None = None,
        normalized: bool = True,
    ) -> torch.Tensor | list[torch.Tensor]:
        """Features of boxes, not normalized: RoIAlign of the dense features (section 3.1).

        Args:
            pixel_values: (N, 3, height, width).
            boxes: xyxy, either (N, K, 4) or N tensors of (K_i, 4), where K_i may be 0.
            box_mask: (N, K), false for padding among `boxes`, which then gives zeros.
            normalized: whether coordinates run from 0 to 1 or are pixels of `pixel_values`.

        Returns:
            (N, K, D), or for a list of boxes a list of (K_i, D).

        Raises:
            ValueError: for boxes that do not fit the images (NaN, inverted, empty, outside).
        """
        if len(boxes) != len(pixel_values):
            raise ValueError(
                f"Received boxes for {len(boxes)} images and {len(pixel_values)} images. Give boxes of shape (N, K, 4) "
                "or a list with one (K_i, 4) tensor for each image, empty for an image without boxes."
            )
        lengths = None
        if not isinstance(boxes, torch.Tensor):
            lengths = [len(image_boxes) for image_boxes in boxes]
            boxes, box_mask = pad_boxes(boxes)
        boxes = boxes.to(pixel_values.device, torch.float32)
        mask = torch.ones(boxes.shape[:2], dtype=torch.bool) if box_mask is None else box_mask
        mask = mask.to(pixel_values.device)
        if not torch.compiler.is_compiling():
            height, width = (1, 1) if normalized else pixel_values.shape[-2:]
            boxes = boxes.masked_scatter(mask.unsqueeze(-1), check_boxes(boxes[mask], width, height))
        if not normalized:
            height, width = pixel_values.shape[-2:]
            boxes = boxes / boxes.new_tensor([width, height, width, height])
        trunk = self.vision_model.trunk(pixel_values)
        only_seen = not torch.compiler.is_compiling()
        regions = self._pool_regions(pixel_values, trunk, boxes * mask.unsqueeze(-1), only_seen)
        return regions if lengths is None else [region[:n] for region, n in zip(regions, lengths, strict=True)]

    def get_image_box_roi_features(
        self, pixel_values: torch.Tensor, box_info: torch.Tensor | list[torch.Tensor]
    ) -> torch.Tensor:
        """The published interface to region features; [`~FGCLIPModel.get_region_features`] is the clearer one.

        Args:
            pixel_values: (N, 3, height, width).
            box_info: xyxy in feature-map units (0 to the number of patches): (K, 5) with the image's index first, or N
                tensors of (K_i, 4).

        Returns:
            (sum of K_i, D) features, not normalized, in the order of the boxes.
        """
        if isinstance(box_info, torch.Tensor):
            image_index, box_list = box_info[:, 0].long(), box_info[:, 1:]
        else:
            image_index = torch.cat([torch.full((len(boxes),), index) for index, boxes in enumerate(box_info)]).long()
            box_list = torch.cat(list(box_info))
        image_index = image_index.to(pixel_values.device)
        dense = self._dense_map(pixel_values, self.vision_model.trunk(pixel_values))  # (N, H, W, D)
        box_list = box_list.to(pixel_values.device)
        features = dense.new_zeros(len(box_list), dense.shape[-1])
        for index in image_index.unique().tolist():
            chosen = image_index == index
            features[chosen] = pool_regions(
                dense[index : index + 1], box_list[chosen].unsqueeze(0), self.config.roi_pooling_size
            )[0]
        return features

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        boxes: torch.Tensor | None = None,
        box_mask: torch.Tensor | None = None,
        packed_texts: PackedTexts | None = None,
        walk_short_pos: bool | torch.Tensor | None = None,
        return_loss: bool = False,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        interpolate_pos_encoding: bool = True,
        return_dict: bool = True,
    ) -> FGCLIPOutput | tuple:
        """Embeds whatever it is given: images, texts, boxes of the images.

        Args:
            input_ids: (texts, L) padded token ids.
            pixel_values: (images, 3, height, width).
            attention_mask: (texts, L), not needed.
            boxes: (images, K, 4) normalized xyxy, zeros for padding; of the first images if there are more.
            box_mask: (images, K), false for padding.
            packed_texts: texts packed by `pack_texts`, instead of `input_ids`. Training packs short, long and region
                texts of a batch together, so no logits are formed from them.
            walk_short_pos: see [`~FGCLIPModel.get_text_features`].
            return_loss: whether to add the global contrastive loss, for as many texts as images.
            output_attentions, output_hidden_states: add them to `text_model_output` and `vision_model_output`.
            interpolate_pos_encoding: see [`~FGCLIPModel.get_image_features`].

        Raises:
            ValueError: neither images nor texts, texts in two forms, boxes without images or that do not fit them, a text
                without its end token, or attentions of another implementation than eager.
        """
        if input_ids is None and pixel_values is None and packed_texts is None:
            raise ValueError("Received neither images nor texts; pass pixel_values, input_ids or both.")
        if input_ids is not None and packed_texts is not None:
            raise ValueError("Received both input_ids and packed_texts; pass the texts once.")
        if boxes is not None and pixel_values is None:
            raise ValueError("Received boxes without pixel_values; boxes are regions of images.")
        if packed_texts is not None and (output_attentions or output_hidden_states):
            raise ValueError("Packed texts have no hidden states of their own; pass input_ids instead.")
        self._check_attentions(output_attentions)
        values: dict[str, Any] = {}  # a ModelOutput that is filled bit by bit orders itself by that
        if pixel_values is not None:
            if packed_texts is None:
                values["vision_model_output"], trunk = self.vision_model.whole(
                    pixel_values, interpolate_pos_encoding, output_attentions, output_hidden_states
                )
                pooled = values["vision_model_output"].pooler_output
            else:  # training reads nothing but the pooled token of the last block
                trunk = self.vision_model.trunk(pixel_values, interpolate_pos_encoding)
                pooled = self.vision_model.pool(trunk)
            values["image_embeds"] = self._normalize(self.visual_projection(pooled))
            if boxes is not None:
                # Images behind the boxes' have none; training embeds crops so.
                with_boxes = slice(None) if len(boxes) == len(pixel_values) else slice(len(boxes))
                regions = self._normalize(self._pool_regions(pixel_values[with_boxes], trunk[with_boxes], boxes))
                values["region_embeds"] = regions if box_mask is None else regions * box_mask.unsqueeze(-1)
        if packed_texts is not None:
            values["text_embeds"] = self._normalize(self.get_packed_text_features(packed_texts))
        elif input_ids is not None:
            text, is_short = self._encode_text(
                input_ids, attention_mask, walk_short_pos, output_attentions, output_hidden_states
            )
            values["text_model_output"] = text
            values["text_embeds"] = self._normalize(self._project_text(text.pooler_output, is_short))
        scales = tuple(
            scale.exp() for scale in (self.logit_scale, self.logit_scale_finegraind, self.logit_scale_hardneg)
        )
        if input_ids is not None and pixel_values is not None:
            logits_per_text = values["text_embeds"] @ values["image_embeds"].t() * scales[0]
            values |= {"logits_per_text": logits_per_text, "logits_per_image": logits_per_text.t()}
        if return_loss:
            values["loss"] = self._contrastive_loss(values.get("logits_per_text"))
        output = FGCLIPOutput(scales=scales, **values)
        return output.to_tuple() if return_dict is False else output

    def _place_texts(
        self, input_ids: torch.Tensor, walk_short_pos: bool | torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, L') token ids with an end each, (L',) or (N, L') positions, and (N, 1) which texts are short.

        Padding behind the longest text is cut. Reading its length waits for the device once; a compiled or exported
        graph cannot, nor can it refuse: there, a text without an end gets one, and a longer one than its positions is
        cut where the processor cuts it.

        Raises:
            ValueError: for a text without an end, or longer than its positions; not when compiled.
        """
        config = self.config.text_config
        short, long = config.max_position_embeddings, config.max_long_position_embeddings
        if torch.compiler.is_compiling():
            input_ids = F.pad(input_ids, (0, 1), value=config.eos_token_id)
        ends = input_ids == config.eos_token_id  # (N, L)
        end = ends.int().argmax(dim=-1)
        is_short = end < short if walk_short_pos is None else torch.as_tensor(walk_short_pos, device=input_ids.device)
        is_short = is_short.reshape(-1, 1)  # (N or 1, 1)
        limit = torch.where(is_short, short, long)  # (N or 1, 1)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        if torch.compiler.is_compiling():
            last = positions == limit - 1  # (N or 1, L)
            input_ids = input_ids.masked_fill(last, config.eos_token_id)
            return input_ids, torch.minimum(positions, limit - 1), is_short
        missing, early, over, longest = (
            torch.stack([~ends.any(-1), ends[:, 0], end >= limit[:, 0], end]).amax(-1).tolist()
        )
        if missing:
            raise ValueError(
                f"Received a text without the end-of-text token {config.eos_token_id}, where texts are pooled. Tokenize "
                "with `FGCLIPProcessor`, or end every text with that token."
            )
        if early:
            raise ValueError(
                f"Received a text that begins with the end-of-text token {config.eos_token_id}, where texts are pooled. "
                "Pad on the right (padding_side='right')."
            )
        if over:
            raise ValueError(
                f"Received a text of {longest + 1} tokens. Short text holds {short} tokens, long text "
                f"(`walk_short_pos=False`) {long}; `FGCLIPProcessor(text=…, long_text=…)` truncates accordingly."
            )
        return input_ids[:, : longest + 1], positions[: longest + 1], is_short

    def _check_attentions(self, output_attentions: bool) -> None:
        implementation = self.config._attn_implementation
        if output_attentions and implementation != "eager":
            raise ValueError(
                f"output_attentions=True needs attention weights, which {implementation!r} does not compute; load with "
                "attn_implementation='eager', or call model.set_attn_implementation('eager')."
            )

    def _project_text(self, pooled: torch.Tensor, is_short: torch.Tensor) -> torch.Tensor:
        return torch.where(is_short, self.text_projection(pooled), self.text_filip_projection(pooled))

    def _dense_map(self, pixel_values: torch.Tensor, trunk: torch.Tensor) -> torch.Tensor:
        size = self.vision_model.feature_map_size(pixel_values)
        return self._dense_of(trunk[:, 1:]).unflatten(1, size)  # (N, H, W, D)

    def _dense_of(self, patches: torch.Tensor) -> torch.Tensor:
        return self.visual_projection(self.vision_model.dense(patches))

    def _pool_regions(
        self, pixel_values: torch.Tensor, trunk: torch.Tensor, boxes: torch.Tensor, only_seen: bool = False
    ) -> torch.Tensor:
        """(N, K, D); of patches under a box alone if `only_seen`: a device is waited for, since their number is read."""
        if not only_seen:
            return self._pool_map(self._dense_map(pixel_values, trunk), boxes)
        size = self.vision_model.feature_map_size(pixel_values)
        boxes = boxes_on_map(boxes, *size)
        return pool_seen_regions(trunk[:, 1:], self._dense_of, boxes, *size, self.config.roi_pooling_size)

    def _pool_map(self, dense: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """(N, K, D) of a (N, H, W, D) map and (N, K, 4) normalized boxes."""
        return pool_regions(dense, boxes_on_map(boxes, *dense.shape[1:3]), self.config.roi_pooling_size)

    def _normalize(self, features: torch.Tensor) -> torch.Tensor:
        # In float32 and back to the weights' dtype: under autocast the embeddings then reach the losses in float32.
        return F.normalize(features.float(), dim=-1).to(self.dtype)

    @staticmethod
    def _contrastive_loss(logits_per_text: torch.Tensor | None) -> torch.Tensor:
        if logits_per_text is None or logits_per_text.shape[0] != logits_per_text.shape[1]:
            shape = None if logits_per_text is None else tuple(logits_per_text.shape)
            raise ValueError(
                f"return_loss needs as many texts as images, text i belonging to image i; the logits are {shape}."
            )
        target = torch.arange(len(logits_per_text), device=logits_per_text.device)
        return (F.cross_entropy(logits_per_text, target) + F.cross_entropy(logits_per_text.t(), target)) / 2


FGCLIPConfig.register_for_auto_class()
FGCLIPModel.register_for_auto_class("AutoModel")

__all__ = ["FGCLIPModel"]
