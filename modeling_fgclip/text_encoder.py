"""CLIP's text encoder with long positions and packed texts."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPTextEmbeddings

from .configuration_fgclip import FGCLIPTextConfig
from .initialization import InitializedAsTransformers
from .mlp import take_mlps
from .packed_text import PackedTexts, Tiles, packed_attention, tiled_attention, tiles_for
from .text_positions import stretch_positions


class FGCLIPTextEmbeddings(CLIPTextEmbeddings):
    """Token and position embeddings; position ids index the short table followed by the long one."""

    def __init__(self, config: FGCLIPTextConfig):
        super().__init__(config)
        self.kept_positions = config.kept_positions
        self.position_stretch = config.position_stretch
        self.position_embedding_ori = nn.Embedding(config.max_long_position_embeddings, config.hidden_size)
        self.position_embedding_res = nn.Embedding(config.max_long_position_embeddings, config.hidden_size)

    def position_table(self) -> torch.Tensor:
        """(77 + 248, D): the short positions, then the long ones (0-19 from `ori`, 20-247 from `res`)."""
        return torch.cat(
            [
                self.position_embedding.weight,
                self.position_embedding_ori.weight[: self.kept_positions],
                self.position_embedding_res.weight[self.kept_positions :],
            ]
        )

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if position_ids is None:
            return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds)
        if inputs_embeds is None:
            inputs_embeds = self.token_embedding(input_ids)
        return inputs_embeds + F.embedding(position_ids, self.position_table())


class FGCLIPTextAttention(CLIPAttention):
    """CLIP's attention, which keeps packed texts apart."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        packed_texts: PackedTexts | None = None,
        tiles: Tiles | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if packed_texts is None:
            return super().forward(hidden_states, attention_mask, **kwargs)
        return self.attend_packed(hidden_states, packed_texts, tiles), None

    def attend_packed(
        self,
        hidden_states: torch.Tensor,
        packed_texts: PackedTexts,
        tiles: Tiles | None = None,
        ends: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(1, U, D) attention of every node to the beginning of its texts.

        Args:
            hidden_states: (1, U, D).
            tiles: of `tiles_for`.
            ends: (N,) nodes at the ends of the texts, where these alone are wanted: (1, N, D).
        """
        dropout = self.dropout if self.training else 0.0
        if tiles is not None:
            # Tokens are copied to their slots before they are projected: a third of what queries, keys and values would copy.
            states = hidden_states.to(tiles.mask.dtype).index_select(1, packed_texts["slots"])
            query, key, value = (
                project(states).unflatten(-1, (self.num_heads, self.head_dim))
                for project in (self.q_proj, self.k_proj, self.v_proj)
            )  # (1, S, heads, head_dim)
            output = tiled_attention(self, query, key, value, tiles, self.scale, dropout).flatten(2)
            places = packed_texts["places"]
            return self.out_proj(output.index_select(1, places if ends is None else places[ends]))
        nodes = packed_texts["nodes"]
        query = self.q_proj(hidden_states if ends is None else hidden_states[:, ends])
        key, value = self.k_proj(hidden_states), self.v_proj(hidden_states)
        if nodes is not None:
            query = query.index_select(1, nodes) if ends is None else query
            key, value = key.index_select(1, nodes), value.index_select(1, nodes)
        query, key, value = (
            states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for states in (query, key, value)
        )  # (1, heads, T or N, head_dim)
        output = packed_attention(
            self, query, key, value, packed_texts, self.scale, dropout, ends_only=ends is not None
        ).flatten(2)
        if nodes is not None and ends is None:
            output = output.index_select(1, packed_texts["tokens"])
        return self.out_proj(output)


class FGCLIPTextModel(InitializedAsTransformers, CLIPTextModel):
    config: FGCLIPTextConfig

    def __init__(self, config: FGCLIPTextConfig):
        super().__init__(config)
        self.embeddings = FGCLIPTextEmbeddings(config)
        for layer in self.encoder.layers:
            layer.self_attn = FGCLIPTextAttention(config)
        take_mlps(self.encoder)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, FGCLIPTextEmbeddings):
            # Also what makes a long-text table out of a CLIP checkpoint, which has none.
            stretched = stretch_positions(
                module.position_embedding.weight, module.kept_positions, module.position_stretch
            )
            init.copy_(module.position_embedding_ori.weight, stretched)
            init.copy_(module.position_embedding_res.weight, stretched)

    def position_ids_of(self, positions: torch.Tensor, long_text: torch.Tensor | bool) -> torch.Tensor:
        """Rows of `position_table` for positions counted from 0, short or long; the two arguments broadcast."""
        return positions + self.config.max_position_embeddings * torch.as_tensor(long_text, device=positions.device)

    def pool_packed(self, packed_texts: PackedTexts) -> torch.Tensor:
        """(N, D) final hidden states at the end of each packed text, in the order the texts were given in."""
        position_ids = self.position_ids_of(packed_texts["position_ids"], packed_texts["long_token"])
        hidden_states = self.embeddings(packed_texts["input_ids"], position_ids=position_ids).unsqueeze(0)  # (1, U, D)
        tiles = tiles_for(packed_texts, hidden_states, self.config._attn_implementation)
        *layers, last = self.encoder.layers
        for layer in layers:
            hidden_states = layer(hidden_states, None, packed_texts=packed_texts, tiles=tiles)
        # Only the ends of the texts are read, so the last block computes only those; its keys and values need all.
        normed = last.layer_norm1(hidden_states)
        ends = packed_texts["cu_seqlens"][1:] - 1
        if packed_texts["nodes"] is not None:
            ends = packed_texts["nodes"][ends]
        pooled = hidden_states[:, ends] + last.self_attn.attend_packed(normed, packed_texts, tiles, ends)
        pooled = pooled + last.mlp(last.layer_norm2(pooled))
        return self.final_layer_norm(pooled[0, packed_texts["restore"]])
