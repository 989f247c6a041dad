"""FG-CLIP 2: SigLIP 2 NaFlex with long text, dense features and region features, for English and Chinese."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Siglip2Model
from transformers import initialization as init

from .boxes import check_boxes, pad_boxes
from .checked_loading import CheckedLoading
from .configuration_fgclip2 import FGCLIP2Config
from .full_texts import TEXT_KINDS, FullTexts, text_kind
from .initialization import InitializedAsTransformers
from .integrations import SavesWhole
from .naflex_vision import FGCLIP2PoolingHead, FGCLIP2VisionModel
from .output import FGCLIPOutput
from .region_pooling import pool_ragged_regions
from .siglip_text import FGCLIP2TextModel

BoxesOfImages = torch.Tensor | list[torch.Tensor]
# What `_init_weights` makes of the rest of a checkpoint: a constant, …
TEMPERATURES = ("logit_scale_finegraind", "logit_scale_hardneg")
# … the short text positions, …
STRETCHED = (
    "text_model.embeddings.position_embedding_ori.weight",
    "text_model.embeddings.position_embedding_res.weight",
)
# … and the tensors of the heads that SigLIP 2 has.
_LINEAR = ("weight", "bias")
_POOLING = (
    "probe",
    "attention.in_proj_weight",
    "attention.in_proj_bias",
    *(f"{layer}.{part}" for layer in ("attention.out_proj", "layernorm", "mlp.fc1", "mlp.fc2") for part in _LINEAR),
)
COPIED = {
    **{f"boxtext_head.{part}": f"text_model.head.{part}" for part in _LINEAR},
    **{f"longtext_head.{part}": f"text_model.head.{part}" for part in _LINEAR},
    **{f"dense_feature_head.{part}": f"vision_model.head.{part}" for part in _POOLING},
}


class FGCLIP2Model(CheckedLoading, SavesWhole, InitializedAsTransformers, Siglip2Model):
    """FG-CLIP 2 dual encoder.

    Loads its own checkpoints, published FG-CLIP 2 ones, and any SigLIP 2 NaFlex checkpoint, whose positions are then
    stretched for long text and whose heads are copied.

    Images are (N, P, 768) patches with a mask and the grid of each, as [`FGCLIP2Processor`] prepares them.
    """

    config: FGCLIP2Config
    config_class = FGCLIP2Config
    # A published FG-CLIP 2 lacks temperatures, a SigLIP 2 all that is ours.
    may_lack = (frozenset(TEMPERATURES), frozenset([*TEMPERATURES, *STRETCHED, *COPIED]))

    def __init__(self, config: FGCLIP2Config):
        # Past Siglip2Model, which would build its own encoders and initialize weights before the rest is here.
        super(Siglip2Model, self).__init__(config)
        self.text_model = FGCLIP2TextModel._from_config(config.text_config)
        self.vision_model = FGCLIP2VisionModel._from_config(config.vision_config)
        width = config.vision_config.hidden_size
        self.boxtext_head = nn.Linear(width, width)
        self.longtext_head = nn.Linear(width, width)
        # It has a `probe` that is never used, as in every published checkpoint.
        self.dense_feature_head = FGCLIP2PoolingHead(config.vision_config)
        self.logit_scale = nn.Parameter(torch.full((1,), config.logit_scale_init_value))
        self.logit_bias = nn.Parameter(torch.full((1,), config.logit_bias_init_value))
        # The misspelling is FG-CLIP's. Published checkpoints lack these two, which only training uses.
        self.logit_scale_finegraind = nn.Parameter(torch.tensor(config.fine_logit_scale_init_value))
        self.logit_scale_hardneg = nn.Parameter(torch.tensor(config.fine_logit_scale_init_value))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, FGCLIP2Model):
            config = module.config
            init.constant_(module.logit_scale, config.logit_scale_init_value)
            init.constant_(module.logit_bias, config.logit_bias_init_value)
            for name in TEMPERATURES:
                init.constant_(module.get_parameter(name), config.fine_logit_scale_init_value)
            # Also what makes the new heads out of a SigLIP 2 checkpoint, which has none.
            for name, origin in COPIED.items():
                init.copy_(module.get_parameter(name), module.get_parameter(origin))

    @classmethod
    def from_siglip2(cls, siglip2: str | Siglip2Model, **kwargs) -> "FGCLIP2Model":
        """Creates an FG-CLIP 2 from a SigLIP 2 NaFlex: a repository id, a folder or a model in memory.

        Args:
            siglip2: the SigLIP 2 to start from.
            kwargs: passed on to `from_pretrained` (`revision`, `dtype`, `attn_implementation`, …).

        Raises:
            ValueError: for a SigLIP of fixed resolution, and for another model.
        """
        if isinstance(siglip2, nn.Module):
            if not isinstance(siglip2, Siglip2Model):
                raise ValueError(
                    f"Received a {type(siglip2).__name__}; FG-CLIP 2 starts from a Siglip2Model (NaFlex), such as "
                    "google/siglip2-base-patch16-naflex."
                )
            config_dict = {**siglip2.config.to_dict(), "model_type": FGCLIP2Config.model_type}
            config = FGCLIP2Config.from_dict(config_dict)
            return cls.from_pretrained(None, config=config, state_dict=siglip2.state_dict(), **kwargs)
        return cls.from_pretrained(siglip2, **kwargs)

    def get_image_features(
        self, pixel_values: torch.Tensor, pixel_attention_mask: torch.Tensor, spatial_shapes: torch.Tensor
    ) -> torch.Tensor:
        """Global features (N, D), not normalized. An image's do not depend on the others beside it.

        Args:
            pixel_values: (N, P, 3 * patch size²) patches, row by row, each image's own first and padding after them.
            pixel_attention_mask: (N, P), 0 for padding.
            spatial_shapes: (N, 2) rows and columns of patches.
        """
        images = self._check_images(pixel_values, pixel_attention_mask, spatial_shapes)
        return self.vision_model.head(self.vision_model.encode(*images), images[1])

    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        walk_type: str = "short",
    ) -> torch.Tensor:
        """(N, L) token ids to (N, D) features, not normalized, pooled at the last position.

        Texts are filled up to their full length here, so padding changes nothing: none, to the longest, or to the full.

        Args:
            input_ids: up to 64 tokens, for `walk_type="long"` up to 196; padding on the right.
            attention_mask: ignored. The model was trained without one: padding is attended to and pooled.
            position_ids: must be left out; positions follow from `walk_type`.
            walk_type: "short" for captions, "box" for phrases of regions, "long" for long captions; each has a head of
                its own, and long text its own positions.

        Raises:
            ValueError: position ids, another `walk_type`, or more tokens than its positions.
        """
        kind = text_kind(walk_type)
        if position_ids is not None:
            raise ValueError("Received position_ids; positions of FG-CLIP 2 follow from walk_type, leave them out.")
        is_long = walk_type == "long"
        pooled = self.text_model.pool(self._fill_up(input_ids, is_long), is_long)
        return self._text_heads()[kind](pooled)

    def get_packed_text_features(self, packed_texts: FullTexts) -> torch.Tensor:
        """(N, D) features, not normalized, of texts packed by `pack_full_texts`, in the order they were given in."""
        pooled = self.text_model.pool_packed(packed_texts)[packed_texts["rows"]]  # (N, D)
        kinds = packed_texts["kinds"].unsqueeze(-1)
        # All heads for all texts: one linear each, and no shapes that depend on how many texts are of which kind.
        return sum((kinds == kind) * head(pooled) for kind, head in enumerate(self._text_heads()))

    def get_image_dense_feature(
        self, pixel_values: torch.Tensor, pixel_attention_mask: torch.Tensor, spatial_shapes: torch.Tensor
    ) -> torch.Tensor:
        """(N, P, D) features of the patches, not normalized; zeros at padding. (The name is the published one.)

        Args:
            pixel_values, pixel_attention_mask, spatial_shapes: of the processor, see [`~FGCLIP2Model.get_image_features`].
        """
        images = self._check_images(pixel_values, pixel_attention_mask, spatial_shapes)
        return self._dense(self.vision_model.encode(*images), images[1])

    def get_image_dense_features(
        self, pixel_values: torch.Tensor, pixel_attention_mask: torch.Tensor, spatial_shapes: torch.Tensor
    ) -> list[torch.Tensor]:
        """For each image its (rows, columns, D) patch features, not normalized.

        Args:
            pixel_values, pixel_attention_mask, spatial_shapes: of the processor, see [`~FGCLIP2Model.get_image_features`].
        """
        dense = self.get_image_dense_feature(pixel_values, pixel_attention_mask, spatial_shapes)
        return [
            features[: rows * columns].unflatten(0, (rows, columns))
            for features, (rows, columns) in zip(dense, spatial_shapes.tolist(), strict=True)
        ]

    def get_region_features(
        self,
        pixel_values: torch.Tensor,
        pixel_attention_mask: torch.Tensor,
        spatial_shapes: torch.Tensor,
        boxes: BoxesOfImages,
        box_mask: torch.Tensor | None = None,
        normalized: bool = True,
    ) -> BoxesOfImages:
        """Features of boxes, not normalized: RoIAlign of the dense features on each image's own grid.

        Args:
            pixel_values, pixel_attention_mask, spatial_shapes: as in [`~FGCLIP2Model.get_image_features`].
            boxes: xyxy, either (N, K, 4) or N tensors of (K_i, 4), where K_i may be 0.
            box_mask: (N, K), false for padding among `boxes`, which then gives zeros.
            normalized: whether coordinates run from 0 to 1 or are pixels of the resized image (patches times patch size).

        Returns:
            (N, K, D), or for a list of boxes a list of (K_i, D).

        Raises:
            ValueError: for boxes that do not fit the images (NaN, inverted, empty, outside).
        """
        images = self._check_images(pixel_values, pixel_attention_mask, spatial_shapes)
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
        mask = mask.to(pixel_values.device).bool()
        if not normalized:
            sides = images[2].flip(-1).repeat(1, 2) * self.config.vision_config.patch_size  # (N, 4): w, h, w, h
            boxes = boxes / sides.unsqueeze(1)
        if not torch.compiler.is_compiling():
            boxes = boxes.masked_scatter(mask.unsqueeze(-1), check_boxes(boxes[mask]))
        dense = self._dense(self.vision_model.encode(*images), images[1])
        regions = pool_ragged_regions(dense, boxes * mask.unsqueeze(-1), images[2], images[1])
        return regions if lengths is None else [region[:n] for region, n in zip(regions, lengths, strict=True)]

    def get_image_region_features(
        self,
        pixel_values: torch.Tensor,
        pixel_attention_mask: torch.Tensor,
        spatial_shapes: torch.Tensor,
        image_sizes: list[tuple[int, int]],
        region_infos: list[list[list[float]]],
    ) -> list[torch.Tensor]:
        """The published interface with boxes in pixels of the original images; features are not normalized.

        Args:
            image_sizes: (height, width) of each original image.
            region_infos: for each image its boxes (x1, y1, x2, y2) in pixels.

        Returns:
            for each image (K_i, D).

        Raises:
            ValueError: not one size and one list of boxes for each image, or boxes that do not fit it.
        """
        if len(image_sizes) != len(region_infos):
            raise ValueError(f"Received sizes of {len(image_sizes)} images and boxes of {len(region_infos)}.")
        boxes = []
        for (height, width), image_boxes in zip(image_sizes, region_infos, strict=True):
            in_pixels = torch.as_tensor(image_boxes, dtype=torch.float32).reshape(-1, 4).cpu()
            checked = check_boxes(in_pixels, float(width), float(height))
            boxes.append(checked / checked.new_tensor([width, height, width, height]))
        return self.get_region_features(pixel_values, pixel_attention_mask, spatial_shapes, boxes)

    def get_image_box_roi_features(
        self,
        pixel_values: torch.Tensor,
        pixel_attention_mask: torch.Tensor,
        spatial_shapes: torch.Tensor,
        box_info: BoxesOfImages,
    ) -> torch.Tensor:
        """The published interface with boxes in patches; unlike FG-CLIP's, its features are L2-normalized.

        Args:
            box_info: xyxy in patches (0 to columns, 0 to rows): N tensors of (K_i, 4), or of (K_i, 5) whose first column
                does not matter, or one tensor (K, 5) with the image's index first.

        Returns:
            (sum of K_i, D), L2-normalized, in the order of the boxes.
        """
        images = self._check_images(pixel_values, pixel_attention_mask, spatial_shapes)
        if isinstance(box_info, torch.Tensor):
            image_index, box_list = box_info[:, 0].long(), box_info[:, 1:]
        else:
            image_index = torch.cat([torch.full((len(boxes),), index) for index, boxes in enumerate(box_info)]).long()
            box_list = torch.cat([torch.as_tensor(boxes)[:, -4:] for boxes in box_info])
        image_index = image_index.to(pixel_values.device)
        dense = self._dense(self.vision_model.encode(*images), images[1])
        box_list = box_list.to(pixel_values.device, torch.float32) / images[2].flip(-1).repeat(1, 2)[image_index]
        features = dense.new_zeros(len(box_list), dense.shape[-1])
        for index in image_index.unique().tolist():
            chosen, image = image_index == index, slice(index, index + 1)
            boxes = box_list[chosen].unsqueeze(0)
            features[chosen] = pool_ragged_regions(dense[image], boxes, images[2][image], images[1][image])[0]
        return F.normalize(features, dim=-1)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_attention_mask: torch.Tensor | None = None,
        spatial_shapes: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        boxes: torch.Tensor | None = None,
        box_mask: torch.Tensor | None = None,
        packed_texts: FullTexts | None = None,
        walk_type: str = "short",
        return_loss: bool = False,
        return_dict: bool = True,
    ) -> FGCLIPOutput | tuple:
        """Embeds whatever it is given: images, texts, boxes of the images. Embeddings are L2-normalized.

        Args:
            input_ids, attention_mask, walk_type: see [`~FGCLIP2Model.get_text_features`].
            pixel_values, pixel_attention_mask, spatial_shapes: see [`~FGCLIP2Model.get_image_features`].
            boxes: (images, K, 4) normalized xyxy, zeros for padding.
            box_mask: (images, K), false for padding.
            packed_texts: texts packed by `pack_full_texts`, instead of `input_ids`. Training packs short, long and
                region texts of a batch together, so no logits are formed from them.
            return_loss: whether to add the sigmoid loss, for as many texts as images.

        Raises:
            ValueError: neither images nor texts, texts in two forms, boxes without images or that do not fit them.
        """
        if input_ids is None and pixel_values is None and packed_texts is None:
            raise ValueError("Received neither images nor texts; pass pixel_values, input_ids or both.")
        if input_ids is not None and packed_texts is not None:
            raise ValueError("Received both input_ids and packed_texts; pass the texts once.")
        if boxes is not None and pixel_values is None:
            raise ValueError("Received boxes without pixel_values; boxes are regions of images.")
        output = FGCLIPOutput()
        if pixel_values is not None:
            images = self._check_images(pixel_values, pixel_attention_mask, spatial_shapes)
            states = self.vision_model.encode(*images)
            output.image_embeds = self._normalize(self.vision_model.head(states, images[1]))
            if boxes is not None:
                regions = pool_ragged_regions(self._dense(states, images[1]), boxes, images[2], images[1])
                output.region_embeds = self._normalize(regions)
                if box_mask is not None:
                    output.region_embeds = output.region_embeds * box_mask.unsqueeze(-1)
        if packed_texts is not None:
            output.text_embeds = self._normalize(self.get_packed_text_features(packed_texts))
        elif input_ids is not None:
            output.text_embeds = self._normalize(self.get_text_features(input_ids, walk_type=walk_type))
        output.scales = tuple(
            scale.exp() for scale in (self.logit_scale, self.logit_scale_finegraind, self.logit_scale_hardneg)
        )
        # Not the parameter itself: what goes out of a wrapped forward must come from it.
        output.bias = self.logit_bias + 0
        if input_ids is not None and pixel_values is not None:
            output.logits_per_text = output.text_embeds @ output.image_embeds.t() * output.scales[0] + output.bias
            output.logits_per_image = output.logits_per_text.t()
        if return_loss:
            output.loss = self._sigmoid_loss(output.logits_per_text)
        return output if return_dict else output.to_tuple()

    def _text_heads(self) -> tuple[nn.Module, ...]:
        """In the order of `TEXT_KINDS`."""
        heads = {"short": self.text_model.head, "box": self.boxtext_head, "long": self.longtext_head}
        return tuple(heads[kind] for kind in TEXT_KINDS)

    def _fill_up(self, input_ids: torch.Tensor, is_long: bool) -> torch.Tensor:
        """(N, L) ids with padding up to the length texts were trained at.

        Raises:
            ValueError: for texts that are longer, or padded on the left.
        """
        config = self.config.text_config
        length = config.longtext_len if is_long else config.max_position_embeddings
        given = input_ids.shape[1]
        if given > length or not given:
            advice = (
                ""
                if is_long
                else f" For up to {config.longtext_len}, pass walk_type='long' (processor: long_text=True)."
            )
            raise ValueError(
                f"Received texts of {given} tokens, padding included; 1 to {length} fit.{advice} "
                "`FGCLIP2Processor` cuts and pads accordingly."
            )
        if not torch.compiler.is_compiling() and (input_ids[:, 0] == config.pad_token_id).any():
            raise ValueError(
                f"Received a text that begins with the padding token {config.pad_token_id}; texts are padded on the right. "
                "Use `FGCLIP2Processor`, or set `tokenizer.padding_side = 'right'`; an empty text has no features."
            )
        return F.pad(input_ids, (0, length - given), value=config.pad_token_id)

    def _check_images(
        self, pixel_values: torch.Tensor, mask: torch.Tensor | None, spatial_shapes: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What an image consists of, checked. Reading the shapes waits for the device once, so not while compiling.

        Raises:
            ValueError: for images that are no patches, and for shapes that are missing or not those of the mask.
        """
        vision = self.config.vision_config
        width = vision.num_channels * vision.patch_size**2
        if pixel_values.dim() != 3 or pixel_values.shape[-1] != width:
            raise ValueError(
                f"Received pixel_values of shape {tuple(pixel_values.shape)}; FG-CLIP 2 takes (N, patches, {width}): "
                f"patches of {vision.patch_size} x {vision.patch_size} pixels. Prepare images with `FGCLIP2Processor`."
            )
        if mask is None or spatial_shapes is None:
            missing = "pixel_attention_mask" if mask is None else "spatial_shapes"
            raise ValueError(
                f"Received pixel_values without {missing}; pass everything the processor returns: model(**inputs)."
            )
        mask, spatial_shapes = mask.to(pixel_values.device), spatial_shapes.to(pixel_values.device)
        if mask.shape != pixel_values.shape[:2] or spatial_shapes.shape != (len(pixel_values), 2):
            raise ValueError(
                f"Received pixel_values of shape {tuple(pixel_values.shape)} with a mask of {tuple(mask.shape)} and "
                f"spatial_shapes of {tuple(spatial_shapes.shape)}; they must be (N, P, {width}), (N, P) and (N, 2)."
            )
        if not torch.compiler.is_compiling():
            patch = torch.arange(mask.shape[1], device=mask.device)
            product = spatial_shapes.prod(-1)
            wrong = (spatial_shapes < 1).any(-1) | (mask.bool() != (patch < product.unsqueeze(-1))).any(-1)
            if wrong.any():
                index = int(wrong.nonzero()[0])
                raise ValueError(
                    f"Received spatial_shapes {spatial_shapes[index].tolist()} for image {index}, whose mask has "
                    f"{int(mask[index].sum())} patches. Rows times columns must be the number of patches, which come first."
                )
        return pixel_values, mask, spatial_shapes

    def _dense(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.dense_feature_head.dense(states, mask).masked_fill(~mask.bool().unsqueeze(-1), 0)

    def _normalize(self, features: torch.Tensor) -> torch.Tensor:
        # In float32 and back to the weights' dtype: under autocast the embeddings then reach the losses in float32.
        return F.normalize(features.float(), dim=-1).to(self.dtype)

    @staticmethod
    def _sigmoid_loss(logits_per_text: torch.Tensor | None) -> torch.Tensor:
        if logits_per_text is None or logits_per_text.shape[0] != logits_per_text.shape[1]:
            shape = None if logits_per_text is None else tuple(logits_per_text.shape)
            raise ValueError(
                f"return_loss needs as many texts as images, text i belonging to image i; the logits are {shape}."
            )
        signs = 2 * torch.eye(len(logits_per_text), device=logits_per_text.device) - 1
        return -F.logsigmoid(signs * logits_per_text).sum(-1).mean()


FGCLIP2Config.register_for_auto_class()
FGCLIP2Model.register_for_auto_class("AutoModel")

__all__ = ["FGCLIP2Model"]
