"""The SenseVoiceSmall network: normalised features in, logits out.

The encoder is a stack of SAN-M blocks (self-attention with an FSMN memory, Gao et al. 2020,
https://arxiv.org/abs/2006.01713) behind four learnt query frames (language, event, emotion, text
normalisation), with one linear layer to the vocabulary for CTC (An et al. 2024,
https://arxiv.org/abs/2407.04051). Parameter names are those of FunASR's checkpoints, so a state dict
loads as it is.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_QUERIES = 4
"""Frames in front of the speech: language, event, emotion, text normalisation. The first four output
frames are, in this order, the language, emotion, event and text-normalisation tags."""

N_QUERY_EMBEDDINGS = 16
"""Rows of the query embedding: 7 reserved, 7 languages (0 is auto), 2 text normalisations."""

EVENT_QUERY = 1
EMOTION_QUERY = 2


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of one checkpoint, as its ``config.yaml`` and tokenizer give them."""

    input_size: int
    output_size: int
    attention_heads: int
    linear_units: int
    num_blocks: int
    tp_blocks: int
    kernel_size: int
    vocab_size: int
    dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.1

    def __post_init__(self) -> None:
        for name, size in asdict(self).items():
            least = 0 if name == "tp_blocks" or name.endswith("_rate") else 1
            if size < least:
                raise ValueError(f"{name} must be at least {least}, not {size}")
        if self.output_size % self.attention_heads:
            raise ValueError(
                f"output_size {self.output_size} is not a multiple of "
                f"attention_heads {self.attention_heads}"
            )


class SanmAttention(nn.Module):
    """Self-attention plus a depthwise convolution over the values (the FSMN memory)."""

    def __init__(self, input_size: int, config: NetworkConfig) -> None:
        super().__init__()
        size = config.output_size
        self.heads = config.attention_heads
        self.dropout_rate = config.attention_dropout_rate
        self.linear_q_k_v = nn.Linear(input_size, 3 * size)
        self.linear_out = nn.Linear(size, size)
        self.fsmn_block = nn.Conv1d(size, size, config.kernel_size, groups=size, bias=False)
        left = (config.kernel_size - 1) // 2
        self.padding = (left, config.kernel_size - 1 - left)

    def memory(self, value: Tensor, mask: Tensor | None) -> Tensor:
        """FSMN memory of ``value`` [batch, frames, size]; padded frames count as zero."""
        if mask is not None:
            value = value * mask[:, :, None]
        out: Tensor = self.fsmn_block(F.pad(value.transpose(1, 2), self.padding))
        out = out.transpose(1, 2) + value
        out = F.dropout(out, self.dropout_rate, self.training)
        return out if mask is None else out * mask[:, :, None]

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` [batch, frames, input_size], ``mask`` [batch, frames] (1 for a real frame) or None
        when no frame is padding → [batch, frames, output_size]."""
        query, key, value = self.linear_q_k_v(x).chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(
            self._split(query),
            self._split(key),
            self._split(value),
            attn_mask=None if mask is None else mask[:, None, None, :].bool(),
            dropout_p=self.dropout_rate if self.training else 0.0,
        )
        out: Tensor = self.linear_out(attended.transpose(1, 2).flatten(2))
        return out + self.memory(value, mask)

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
        out: Tensor = self.w_2(self.dropout(F.relu(self.w_1(x))))
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

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
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

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
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
        queries = torch.cat([language_query[:, None], fixed, textnorm_query[:, None]], dim=1)
        x = torch.cat([self.embed(queries), features], dim=1)
        mask: Tensor | None = None
        # Without padding the mask is all ones: leaving it out keeps attention on its fast kernel.
        if batch > 1 and bool((n_frames < frames).any()):
            positions = torch.arange(N_QUERIES + frames, device=features.device)
            mask = (positions[None, :] < (n_frames + N_QUERIES)[:, None]).to(features.dtype)
        out: Tensor = self.encoder(x, mask)
        return out

    def forward(
        self, features: Tensor, n_frames: Tensor, language_query: Tensor, textnorm_query: Tensor
    ) -> Tensor:
        """As :meth:`encode`, then the vocabulary layer → logits float [batch, 4 + frames, vocab]."""
        out: Tensor = self.ctc(self.encode(features, n_frames, language_query, textnorm_query))
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
