"""The SenseVoiceSmall network: normalised features in, logits out.

The encoder is a stack of SAN-M blocks (self-attention with an FSMN memory, Gao et al. 2020,
https://arxiv.org/abs/2006.01713) behind four learnt query frames (language, event, emotion, text
normalisation), with one linear layer to the vocabulary for CTC (An et al. 2024,
https://arxiv.org/abs/2407.04051). Parameter names are those of FunASR's checkpoints, so a state dict
loads as it is.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from predictor.engine.network import (
    EMOTION_QUERY,
    EVENT_QUERY,
    N_QUERIES,
    N_QUERY_EMBEDDINGS,
    NetworkConfig,
)


class PaddingMask(NamedTuple):
    """Where a batch is padded, in the forms that every block needs.

    Attributes:
        frames: float [batch, frames], 1 for a real frame, 0 for padding.
        scores: float [batch, 1, 1, frames], added to attention scores: 0 or -inf. A boolean mask would
            be turned into this anew by every block.
    """

    frames: Tensor
    scores: Tensor

    @classmethod
    def of(cls, real: Tensor, dtype: torch.dtype) -> "PaddingMask":
        """``real``: bool [batch, frames]."""
        scores = torch.zeros_like(real, dtype=dtype).masked_fill_(~real, -math.inf)
        return cls(real.to(dtype), scores[:, None, None, :])


class SanmAttention(nn.Module):
    """Self-attention plus a depthwise convolution over the values (the FSMN memory)."""

    def __init__(self, input_size: int, config: NetworkConfig) -> None:
        super().__init__()
        size = config.output_size
        self.heads = config.attention_heads
        self.dropout_rate = config.attention_dropout_rate
        self.linear_q_k_v = nn.Linear(input_size, 3 * size)
        self.linear_out = nn.Linear(size, size)
        self.fsmn_block = nn.Conv1d(
            size, size, config.kernel_size, groups=size, bias=False, padding="same"
        )

    def memory(self, value: Tensor, mask: Tensor | None) -> Tensor:
        """FSMN memory of ``value`` [batch, frames, size]; padded frames count as zero."""
        if mask is not None:
            value = value * mask[:, :, None]
        if torch.compiler.is_compiling():
            # A compiler makes one kernel of the shifts, and leaves a convolution with its transpositions.
            out = shifted_sum(value, self.fsmn_block.weight)
        else:
            out = self.fsmn_block(value.transpose(1, 2)).transpose(1, 2)
        return F.dropout(out + value, self.dropout_rate, self.training)

    def forward(self, x: Tensor, mask: PaddingMask | None) -> Tensor:
        """``x`` [batch, frames, input_size] → [batch, frames, output_size]; no mask where no frame is
        padding. What comes out for a padded frame has no meaning."""
        query, key, value = self.linear_q_k_v(x).chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(
            self._split(query),
            self._split(key),
            self._split(value),
            attn_mask=None if mask is None else mask.scores,
            dropout_p=self.dropout_rate if self.training else 0.0,
        )
        out: Tensor = self.linear_out(attended.transpose(1, 2).flatten(2))
        return out + self.memory(value, None if mask is None else mask.frames)

    def _split(self, x: Tensor) -> Tensor:
        """[batch, frames, size] → [batch, heads, frames, size / heads]."""
        batch, frames, size = x.shape
        return x.view(batch, frames, self.heads, size // self.heads).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.w_1 = nn.Linear(config.output_size, config.linear_units)
        self.w_2 = nn.Linear(config.linear_units, config.output_size)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            hidden = F.relu(self.w_1(x))
        else:
            # cuBLAS takes the activation along, which saves a pass over the network's widest tensor.
            # torch has this operation for inference alone.
            flat = torch._addmm_activation(self.w_1.bias, x.flatten(0, 1), self.w_1.weight.t())
            hidden = flat.view(*x.shape[:2], -1)
        out: Tensor = self.w_2(self.dropout(hidden))
        return out


class SanmBlock(nn.Module):
    """Pre-norm block; the first one maps 560 features to the model's width and has no residual."""

    def __init__(self, input_size: int, config: NetworkConfig) -> None:
        super().__init__()
        self.self_attn = SanmAttention(input_size, config)
        self.feed_forward = FeedForward(config)
        self.norm1 = nn.LayerNorm(input_size)
        self.norm2 = nn.LayerNorm(config.output_size)
        self.dropout = nn.Dropout(config.dropout_rate)
        self.residual = input_size == config.output_size

    def forward(self, x: Tensor, mask: PaddingMask | None) -> Tensor:
        attended = self.dropout(self.self_attn(self.norm1(x), mask))
        x = x + attended if self.residual else attended
        out: Tensor = x + self.dropout(self.feed_forward(self.norm2(x)))
        return out


class SanmEncoder(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.output_size
        self.scale = math.sqrt(width)
        self.encoders0 = nn.ModuleList([SanmBlock(config.input_size, config)])
        self.encoders = nn.ModuleList(
            SanmBlock(width, config) for _ in range(config.num_blocks - 1)
        )
        self.after_norm = nn.LayerNorm(width)
        self.tp_encoders = nn.ModuleList(SanmBlock(width, config) for _ in range(config.tp_blocks))
        self.tp_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: PaddingMask | None) -> Tensor:
        """``x`` [batch, frames, input_size] → [batch, frames, output_size]."""
        x = x * self.scale + sinusoidal_positions(x.shape[1], x.shape[2], x.device).to(x.dtype)
        for block in (*self.encoders0, *self.encoders):
            x = block(x, mask)
        x = self.after_norm(x)
        for block in self.tp_encoders:
            x = block(x, mask)
        out: Tensor = self.tp_norm(x)
        return out


class CtcHead(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.ctc_lo = nn.Linear(config.output_size, config.vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ctc_lo(x)
        return out


class SenseVoiceNetwork(nn.Module):
    """The whole network. ``state_dict()`` keys equal those of FunASR's ``SenseVoiceSmall``."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(N_QUERY_EMBEDDINGS, config.input_size)
        self.encoder = SanmEncoder(config)
        self.ctc = CtcHead(config)

    def encode(
        self, features: Tensor, n_frames: Tensor, language_query: Tensor, textnorm_query: Tensor
    ) -> Tensor:
        """Encoder output, before the vocabulary layer.

        Args:
            features: float [batch, frames, input_size], normalised, zero-padded on the right.
            n_frames: int64 [batch], real frames of each item.
            language_query: int64 [batch], row of the query embedding.
            textnorm_query: int64 [batch], row of the query embedding.

        Returns:
            float [batch, 4 + frames, output_size].
        """
        batch, frames, _ = features.shape
        fixed = features.new_tensor([EVENT_QUERY, EMOTION_QUERY], dtype=torch.long).expand(batch, 2)
        rows = torch.cat([language_query[:, None], fixed, textnorm_query[:, None]], dim=1)
        padded = batch > 1 and bool((n_frames < frames).any())
        return self.encode_rows(features, rows, n_frames if padded else None)

    def encode_rows(self, features: Tensor, rows: Tensor, n_frames: Tensor | None) -> Tensor:
        """As :meth:`encode`, without asking the device anything on the way.

        Args:
            features: float [batch, frames, input_size]; what lies in the padding does not matter.
            rows: int64 [batch, 4], rows of the query embedding.
            n_frames: int64 [batch]; None where no frame is padding, which keeps attention on its fastest
                kernel.
        """
        x = torch.cat([self.embed(rows), features], dim=1)
        mask: PaddingMask | None = None
        if n_frames is not None:
            positions = torch.arange(x.shape[1], device=x.device)
            mask = PaddingMask.of(positions < (n_frames + N_QUERIES)[:, None], x.dtype)
        out: Tensor = self.encoder(x, mask)
        return out

    def forward(
        self, features: Tensor, n_frames: Tensor, language_query: Tensor, textnorm_query: Tensor
    ) -> Tensor:
        """As :meth:`encode`, then the vocabulary layer → logits float [batch, 4 + frames, vocab]."""
        out: Tensor = self.ctc(self.encode(features, n_frames, language_query, textnorm_query))
        return out


def shifted_sum(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise convolution over time as a sum of shifted products, zeros beyond both ends.

    Args:
        x: float [batch, frames, size].
        weight: float [size, 1, kernel].
    """
    frames, kernel = x.shape[1], weight.shape[2]
    left = (kernel - 1) // 2
    padded = F.pad(x, (0, 0, left, kernel - 1 - left))
    out = padded[:, :frames] * weight[:, 0, 0]
    for shift in range(1, kernel):
        out = out + padded[:, shift : shift + frames] * weight[:, 0, shift]
    return out


def sinusoidal_positions(n_frames: int, size: int, device: torch.device) -> Tensor:
    """Position encoding, float32 [n_frames, size]: sines then cosines, positions from 1.

    As FunASR's ``SinusoidalPositionEncoder``: wavelengths from 2π to 10000·2π in ``size / 2`` steps.
    """
    step = math.log(10000.0) / (size / 2 - 1)
    inverse = torch.exp(torch.arange(size // 2, dtype=torch.float32, device=device) * -step)
    positions = torch.arange(1, n_frames + 1, dtype=torch.float32, device=device)
    scaled = positions[:, None] * inverse[None, :]
    return torch.cat([scaled.sin(), scaled.cos()], dim=1)
