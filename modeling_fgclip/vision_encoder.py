"""CLIP's vision encoder at any resolution, with dense features."""

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward

from .initialization import InitializedAsTransformers
from .mlp import take_mlps


class FGCLIPVisionModel(InitializedAsTransformers, CLIPVisionModel):
    def __init__(self, config: CLIPVisionConfig):
        super().__init__(config)
        take_mlps(self.encoder)

    def feature_map_size(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of patches of (N, 3, height, width) images."""
        if pixel_values.dim() != 4:
            raise ValueError(f"pixel_values must be (N, 3, height, width), got shape {tuple(pixel_values.shape)}.")
        height, width = pixel_values.shape[-2:]
        patch = self.config.patch_size
        if height % patch or width % patch or not height or not width:
            raise ValueError(
                f"Received images of {height} x {width} pixels; height and width must be multiples of the patch size "
                f"{patch}. Let `FGCLIPProcessor` resize them."
            )
        return height // patch, width // patch

    def trunk(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool = True) -> torch.Tensor:
        """(N, 1 + H * W, D) hidden states before the last block, which the global and the dense features share."""
        self.feature_map_size(pixel_values)
        hidden_states = self.embeddings(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        hidden_states = self.pre_layrnorm(hidden_states)
        for layer in self.encoder.layers[:-1]:
            hidden_states = layer(hidden_states, None)
        return hidden_states

    def whole(
        self,
        pixel_values: torch.Tensor,
        interpolate_pos_encoding: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> tuple[BaseModelOutputWithPooling, torch.Tensor]:
        """CLIP's output, with the last block computed for every token, and `trunk`."""
        if not output_attentions and not output_hidden_states:
            trunk = self.trunk(pixel_values, interpolate_pos_encoding)
            last = self.encoder.layers[-1](trunk, None)
            pooled = self.post_layernorm(last[:, 0])
            return BaseModelOutputWithPooling(last_hidden_state=last, pooler_output=pooled), trunk
        self.feature_map_size(pixel_values)
        output = self(
            pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
            output_attentions=output_attentions,
            output_hidden_states=True,
        )
        trunk = output.hidden_states[-2]
        if not output_hidden_states:
            output.hidden_states = None
        return output, trunk

    def pool(self, trunk: torch.Tensor) -> torch.Tensor:
        """(N, D) global features: the class token after the last block, of which nothing else is computed."""
        layer = self.encoder.layers[-1]
        attention = layer.self_attn
        normed = layer.layer_norm1(trunk)
        query, key, value = (
            projection(states).unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)
            for projection, states in (
                (attention.q_proj, normed[:, :1]),
                (attention.k_proj, normed),
                (attention.v_proj, normed),
            )
        )  # (N, heads, 1 or 1 + H * W, head_dim)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = attention.dropout if self.training else 0.0
        output, _ = attend(
            attention, query, key, value, None, scaling=attention.scale, dropout=dropout, is_causal=False
        )
        hidden_states = trunk[:, :1] + attention.out_proj(output.flatten(2))
        hidden_states = hidden_states + layer.mlp(layer.layer_norm2(hidden_states))
        return self.post_layernorm(hidden_states[:, 0])

    def dense(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Features of any patches (…, D) of the trunk, each by itself: the last block without its attention weights (MaskCLIP,
        Zhou et al., 2022)."""
        layer = self.encoder.layers[-1]
        values = layer.self_attn.v_proj(layer.layer_norm1(hidden_states))
        hidden_states = hidden_states + layer.self_attn.out_proj(values)
        hidden_states = hidden_states + layer.mlp(layer.layer_norm2(hidden_states))
        return self.post_layernorm(hidden_states)
