"""SigLIP 2 NaFlex's vision encoder: images of any grid beside each other, and a head for dense features."""

import torch
from torch.nn import functional as F
from transformers import Siglip2VisionModel
from transformers.models.siglip2.modeling_siglip2 import (
    Siglip2MultiheadAttentionPoolingHead,
    Siglip2VisionEmbeddings,
)

from .configuration_fgclip2 import FGCLIP2VisionConfig
from .initialization import InitializedAsTransformers


def resampling_weights(place: torch.Tensor, target: torch.Tensor, source: int) -> torch.Tensor:
    """Weights of `source` cells for cells of an axis of `target` cells: bilinear with antialiasing.

    As `interpolate(mode="bilinear", antialias=True)` along one axis. It is linear and separable, so that
    a grid of any size is a product of two of these, for all images of a batch at once and without a look at the sizes.

    Args:
        place: (…) cells of the target axis, from 0.
        target: (…) its sizes.

    Returns:
        (…, source) float32; they sum to 1.
    """
    scale = source / target.float()
    center = scale * (place + 0.5)
    support = scale.clamp(min=1)
    cell = torch.arange(source, device=place.device) + 0.5
    weights = (1 - (cell - center.unsqueeze(-1)).abs() / support.unsqueeze(-1)).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)


def cut_into_patches(pixel_values: torch.Tensor, patch_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images of one size as the encoder takes them, whole: no resizing and no padding.

    Args:
        pixel_values: (N, 3, H, W), normalized; both sides are multiples of the patch.

    Returns:
        (N, P, 3 * patch size²) patches, row by row with channels last, (N, P) mask and (N, 2) rows and columns.
    """
    rows, columns = (side // patch_size for side in pixel_values.shape[-2:])
    cut = pixel_values.unflatten(3, (columns, patch_size)).unflatten(2, (rows, patch_size))
    patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    mask = torch.ones_like(patches[..., 0], dtype=torch.bool)
    # Sizes of tensors, not numbers, so that an export keeps the batch free.
    first = patches[:, 0, 0].long()
    return patches, mask, torch.stack([torch.full_like(first, rows), torch.full_like(first, columns)], dim=1)


class FGCLIP2VisionEmbeddings(Siglip2VisionEmbeddings):
    """Patch and position embeddings; positions of all images of a batch are resampled at once."""

    def position_embeddings(self, spatial_shapes: torch.Tensor, patches: int) -> torch.Tensor:
        """(N, patches, D) positions of grids of (N, 2) rows and columns; what stands at padding means nothing."""
        rows, columns = spatial_shapes.unsqueeze(-1).unbind(1)  # (N, 1) each
        patch = torch.arange(patches, device=spatial_shapes.device)
        side = self.position_embedding_size
        along_y = resampling_weights(torch.minimum(patch // columns, rows - 1), rows, side)  # (N, P, side)
        along_x = resampling_weights(patch % columns, columns, side)
        weights = (along_y.unsqueeze(-1) * along_x.unsqueeze(-2)).flatten(2)  # (N, P, side * side)
        return weights.to(self.position_embedding.weight.dtype) @ self.position_embedding.weight

    def forward(self, pixel_values: torch.Tensor, spatial_shapes: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        return patches + self.position_embeddings(spatial_shapes, pixel_values.shape[1])


class FGCLIP2PoolingHead(Siglip2MultiheadAttentionPoolingHead):
    """Attention pooling by one learned query, or by every patch as its own query (dense features)."""

    def forward(self, hidden_state: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """(N, P, D) states and (N, P) mask to (N, D)."""
        return self._attend(self.probe.expand(hidden_state.shape[0], -1, -1), hidden_state, attention_mask)[:, 0]

    def dense(self, hidden_state: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """(N, P, D) states and (N, P) mask to (N, P, D); the mask is of keys alone, so that no (P, P) mask is formed."""
        return self._attend(hidden_state, hidden_state, attention_mask)

    def _attend(
        self, queries: torch.Tensor, states: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        attention = self.attention
        of_query, of_others = attention.in_proj_weight.split((attention.embed_dim, 2 * attention.embed_dim))
        query_bias, others_bias = attention.in_proj_bias.split((attention.embed_dim, 2 * attention.embed_dim))
        query = F.linear(queries, of_query, query_bias)
        key, value = F.linear(states, of_others, others_bias).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)
            for part in (query, key, value)
        )  # (N, heads, 1 or P, head_dim)
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output = attention.out_proj(output.transpose(1, 2).flatten(2))
        return output + self.mlp(self.layernorm(output))


class FGCLIP2VisionModel(InitializedAsTransformers, Siglip2VisionModel):
    config: FGCLIP2VisionConfig

    def __init__(self, config: FGCLIP2VisionConfig):
        super().__init__(config)
        self.embeddings = FGCLIP2VisionEmbeddings(config)
        self.head = FGCLIP2PoolingHead(config)
        self.post_init()

    def encode(
        self, pixel_values: torch.Tensor, pixel_attention_mask: torch.Tensor, spatial_shapes: torch.Tensor
    ) -> torch.Tensor:
        """(N, P, D) hidden states after the last norm, from which the global and the dense features are pooled."""
        # Whatever stands at padding stays out: no mask of attention stops a NaN.
        pixel_values = pixel_values.masked_fill(~pixel_attention_mask.bool().unsqueeze(-1), 0)
        hidden_states = self.embeddings(pixel_values, spatial_shapes)
        # Of keys alone: transformers' own mask has a row for every query, 2 MB an image at 1,024 patches.
        mask = pixel_attention_mask.bool()[:, None, None, :]
        if self.config._attn_implementation == "eager":
            mask = torch.where(mask, 0.0, torch.finfo(hidden_states.dtype).min).to(hidden_states.dtype)
        for layer in self.encoder.layers:
            hidden_states = layer(hidden_states, mask)
        return self.post_layernorm(hidden_states)


__all__ = ["FGCLIP2PoolingHead", "FGCLIP2VisionModel", "cut_into_patches", "resampling_weights"]
