"""SigLIP 2's text encoder with long positions, pooled at its last position."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Siglip2TextModel
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.siglip2.modeling_siglip2 import (
    Siglip2Attention,
    Siglip2TextEmbeddings,
    eager_attention_forward,
)

from .configuration_fgclip2 import FGCLIP2TextConfig
from .full_texts import FullTexts
from .initialization import InitializedAsTransformers
from .packed_text import packed_attention
from .text_positions import stretch_positions


class FGCLIP2TextEmbeddings(Siglip2TextEmbeddings):
    """Token and position embeddings; position ids index the short table followed by the long one."""

    def __init__(self, config: FGCLIP2TextConfig):
        super().__init__(config)
        self.kept = config.keep_len
        self.stretch = config.position_stretch
        self.position_embedding_ori = nn.Embedding(config.longtext_len, config.hidden_size)
        self.position_embedding_res = nn.Embedding(config.longtext_len, config.hidden_size)

    def position_table(self) -> torch.Tensor:
        """(64 + 196, D): the short positions, then the long ones (0-19 from `ori`, 20-195 from `res`)."""
        return torch.cat(
            [
                self.position_embedding.weight,
                self.position_embedding_ori.weight[: self.kept],
                self.position_embedding_res.weight[self.kept :],
            ]
        )

    def embed(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        return self.token_embedding(input_ids) + F.embedding(position_ids, self.position_table())


class FGCLIP2TextAttention(Siglip2Attention):
    """SigLIP's attention, which keeps packed texts apart and can compute the last position alone."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        packed_texts: FullTexts | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if packed_texts is None:
            return super().forward(hidden_states, attention_mask, **kwargs)
        return self._attend_packed(hidden_states, hidden_states, packed_texts, ends_only=False), None

    def attend_last(self, hidden_states: torch.Tensor, packed_texts: FullTexts | None = None) -> torch.Tensor:
        """Attention of the last position of each text to all of it.

        Args:
            hidden_states: (N, L, D), or (1, T, D) of packed texts.

        Returns:
            (N, 1, D), or (1, R, D).
        """
        if packed_texts is not None:
            ends = hidden_states[:, packed_texts["cu_seqlens"][1:] - 1]
            return self._attend_packed(ends, hidden_states, packed_texts, ends_only=True)
        query, key, value = self._heads(hidden_states[:, -1:], hidden_states)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.dropout if self.training else 0.0
        output, _ = attend(self, query, key, value, None, scaling=self.scale, dropout=dropout, is_causal=False)
        return self.out_proj(output.flatten(2))

    def _attend_packed(
        self, queries: torch.Tensor, states: torch.Tensor, packed_texts: FullTexts, ends_only: bool
    ) -> torch.Tensor:
        query, key, value = self._heads(queries, states)
        dropout = self.dropout if self.training else 0.0
        output = packed_attention(
            self, query, key, value, packed_texts, self.scale, dropout, ends_only=ends_only, causal=False
        )
        return self.out_proj(output.flatten(2))

    def _heads(self, queries: torch.Tensor, states: torch.Tensor) -> list[torch.Tensor]:
        """(N, heads, length, head_dim) each."""
        projected = (self.q_proj(queries), self.k_proj(states), self.v_proj(states))
        return [part.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for part in projected]


class FGCLIP2TextModel(InitializedAsTransformers, Siglip2TextModel):
    config: FGCLIP2TextConfig

    def __init__(self, config: FGCLIP2TextConfig):
        super().__init__(config)
        self.embeddings = FGCLIP2TextEmbeddings(config)
        for layer in self.encoder.layers:
            layer.self_attn = FGCLIP2TextAttention(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, FGCLIP2TextEmbeddings):
            # Also what makes a long-text table out of a SigLIP 2 checkpoint, which has none.
            stretched = stretch_positions(module.position_embedding.weight, module.kept, module.stretch)
            init.copy_(module.position_embedding_ori.weight, stretched)
            init.copy_(module.position_embedding_res.weight, stretched)

    def pool(self, input_ids: torch.Tensor, long_text: bool) -> torch.Tensor:
        """(N, 64 or 196) ids at full length to the (N, D) final hidden states at the last position."""
        first = self.config.max_position_embeddings if long_text else 0
        position_ids = torch.arange(first, first + input_ids.shape[1], device=input_ids.device)
        return self._pool(self.embeddings.embed(input_ids, position_ids))[:, 0]

    def pool_packed(self, packed_texts: FullTexts) -> torch.Tensor:
        """(R, D) final hidden states at the last position of each packed row."""
        hidden_states = self.embeddings.embed(packed_texts["input_ids"], packed_texts["position_ids"])
        return self._pool(hidden_states.unsqueeze(0), packed_texts)[0]

    def _pool(self, hidden_states: torch.Tensor, packed_texts: FullTexts | None = None) -> torch.Tensor:
        """(N, 1, D) or (1, R, D). Only the last positions are read, so the last block computes only those."""
        *layers, last = self.encoder.layers
        for layer in layers:
            hidden_states = layer(hidden_states, None, packed_texts=packed_texts)
        if packed_texts is None:
            pooled = hidden_states[:, -1:]
        else:
            pooled = hidden_states[:, packed_texts["cu_seqlens"][1:] - 1]
        pooled = pooled + last.self_attn.attend_last(last.layer_norm1(hidden_states), packed_texts)
        pooled = pooled + last.mlp(last.layer_norm2(pooled))
        return self.final_layer_norm(pooled)


__all__ = ["FGCLIP2TextModel"]
