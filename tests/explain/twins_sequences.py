"""PyTorch's functions for operators on sequences: attention, rotations, transforms, recurrences (see twins.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

F = torch.nn.functional
Tensor = torch.Tensor


def heads(x: Tensor, count: int) -> Tensor:
    """[batch, length, count * size] as [batch, count, length, size]."""
    return x if x.ndim == 4 else x.unflatten(-1, (count, -1)).transpose(1, 2)


def allowed(
    length: int, keys: int, offset: Tensor, filled: Tensor | None, causal: int, left: int, right: int
) -> Tensor:
    """Which key each query may attend to [batch or 1, 1, queries, keys]; `offset` keys come before the first query."""
    query, key = torch.arange(length)[:, None] + offset[:, None, None, None], torch.arange(keys)
    seen = torch.ones(1, 1, length, keys, dtype=torch.bool)
    if filled is not None:
        seen = seen & (key < filled[:, None, None, None])
    seen = seen & (key <= query) if causal else seen
    seen = seen & (key >= query - left) if left >= 0 else seen
    return seen & (key <= query + right) if right >= 0 else seen


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_k: Tensor | None = None,
    past_v: Tensor | None = None,
    filled: Tensor | None = None,
    is_causal: int = 0,
    scale: float | None = None,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    left_window_size: int = -1,
    right_window_size: int = -1,
    softcap: float = 0.0,
    qk_matmul_output_mode: int = 0,
    softmax_precision: int = 1,
) -> tuple[Tensor, ...]:
    """PyTorch's attention has neither a softcap nor the scores as a result: they are written out."""
    flat = q.ndim == 3
    q, k, v = heads(q, q_num_heads), heads(k, kv_num_heads), heads(v, kv_num_heads)
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    before = torch.tensor([0 if past_k is None else past_k.shape[2]])
    offset = filled - q.shape[2] if filled is not None else before
    seen = allowed(q.shape[2], k.shape[2], offset, filled, is_causal, left_window_size, right_window_size)
    if mask is not None:
        missing = k.shape[2] - mask.shape[-1]
        off = False if mask.dtype == torch.bool else -torch.inf
        mask = F.pad(mask, [0, missing], value=off)
        seen = seen & mask if mask.dtype == torch.bool else torch.where(seen, mask, -torch.inf)
    scores = written_out(q, k, seen, scale, softcap)
    if softcap:
        y = scores[3] @ v.repeat_interleave(q.shape[1] // v.shape[1], 1)
    else:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=True)
    return y.transpose(1, 2).flatten(2) if flat else y, k, v, scores[qk_matmul_output_mode]


def flex_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, softmax_precision: int = 1) -> Tensor:
    """Without the graphs that change scores and shares."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=True)


def written_out(q: Tensor, k: Tensor, seen: Tensor, scale: float | None, softcap: float) -> tuple[Tensor, ...]:
    """The scores: raw, capped, with the mask, and as shares (all 0 where no key is left)."""
    raw = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT * (scale or q.shape[-1] ** -0.5)
    capped = softcap * torch.tanh(raw / softcap) if softcap else raw
    masked = torch.where(seen, capped, -torch.inf) if seen.dtype == torch.bool else capped + seen
    left = (masked > -torch.inf).any(-1, keepdim=True)
    return raw, capped, masked, torch.where(left, F.softmax(torch.where(left, masked, 0.0), -1), 0.0)


def rotary(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor | None = None,
    interleaved: int = 0,
    rotary_embedding_dim: int = 0,
    num_heads: int = 0,
) -> Tensor:
    """Pairs of elements as complex numbers, turned."""
    cos, sin = (cos, sin) if positions is None else (cos[positions], sin[positions])
    every = heads(x, num_heads)
    size = rotary_embedding_dim or every.shape[-1]
    turned, rest = every[..., :size], every[..., size:]
    pairs = turned.unflatten(-1, (-1, 2) if interleaved else (2, -1))
    axis = -1 if interleaved else -2
    numbers = torch.complex(*pairs.unbind(axis)) * torch.complex(cos, sin)[:, None]
    y = torch.cat([torch.stack([numbers.real, numbers.imag], axis).flatten(-2), rest], -1)
    return y if x.ndim == 4 else y.transpose(1, 2).flatten(2)


def dft(
    x: Tensor,
    length: Tensor | None = None,
    at: Tensor | None = None,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    along, count = axis if at is None else int(at), None if length is None else int(length)
    along = along % x.ndim
    if inverse and onesided:
        return torch.fft.irfft(torch.view_as_complex(x), count, along).unsqueeze(-1)
    numbers = torch.view_as_complex(x) if x.shape[-1] == 2 else x[..., 0]
    f = torch.fft.ifft if inverse else torch.fft.rfft if onesided else torch.fft.fft
    return torch.view_as_real(f(numbers, count, along))


def stft(
    signal: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None, onesided: int = 1
) -> Tensor:
    size = int(length) if length is not None else len(window)  # type: ignore[arg-type]
    window = torch.ones(size, dtype=signal.dtype) if window is None else window
    frames = signal[..., 0].unfold(1, size, int(step)) * window
    return torch.view_as_real((torch.fft.rfft if onesided else torch.fft.fft)(frames))


def rnn_step(x: Tensor, h: Tensor, c: Tensor, w: Tensor, r: Tensor, b: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    return torch.tanh(F.linear(x, w, b[0]) + F.linear(h, r, b[1])), c


def gru_step(x: Tensor, h: Tensor, c: Tensor, w: Tensor, r: Tensor, b: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """The reset comes before the linear map, which PyTorch's own GRU has the other way round."""
    (wz, wr, wn), (rz, rr, rn) = w.chunk(3), r.chunk(3)
    (bz, br, bn), (cz, cr, cn) = b[0].chunk(3), b[1].chunk(3)
    update = torch.sigmoid(F.linear(x, wz, bz) + F.linear(h, rz, cz))
    reset = torch.sigmoid(F.linear(x, wr, br) + F.linear(h, rr, cr))
    new = torch.tanh(F.linear(x, wn, bn) + F.linear(reset * h, rn, cn))
    return (1 - update) * new + update * h, c


def lstm_step(x: Tensor, h: Tensor, c: Tensor, w: Tensor, r: Tensor, b: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    into, out, keep, new = (F.linear(x, w, b[0]) + F.linear(h, r, b[1])).chunk(4, -1)
    p_in, p_out, p_keep = p.chunk(3)
    c = torch.sigmoid(keep + p_keep * c) * c + torch.sigmoid(into + p_in * c) * torch.tanh(new)
    return torch.sigmoid(out + p_out * c) * torch.tanh(c), c


def recurrent(step: Callable[..., tuple[Tensor, Tensor]], gates: int) -> Callable[..., tuple[Tensor, ...]]:
    """A step unrolled over time, in either or both directions; an item stays as it is beyond its length."""

    def twin(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: Tensor | None = None,
        h0: Tensor | None = None,
        c0: Tensor | None = None,
        p: Tensor | None = None,
        hidden_size: int = 0,
        direction: str = "forward",
        layout: int = 0,
    ) -> tuple[Tensor, ...]:
        x = x.transpose(0, 1) if layout else x
        length, batch = x.shape[:2]
        ends = torch.full([batch], length) if lengths is None else lengths
        turns = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
        states, last = [], []
        for d, backwards in enumerate(turns):
            bias = x.new_zeros(2, gates * hidden_size) if b is None else b[d].reshape(2, -1)
            peepholes = x.new_zeros(3 * hidden_size) if p is None else p[d]
            h, c = (
                x.new_zeros(batch, hidden_size) if s is None else s.movedim(-2, 0 if layout else -2)[d]
                for s in (h0, c0)
            )
            ys = [x.new_zeros(batch, hidden_size)] * length
            for t in reversed(range(length)) if backwards else range(length):
                alive = (t < ends)[:, None]
                h_new, c_new = step(x[t], h, c, w[d], r[d], bias, peepholes)
                h, c = torch.where(alive, h_new, h), torch.where(alive, c_new, c)
                ys[t] = torch.where(alive, h, 0.0)
            states.append(torch.stack(ys))
            last.append((h, c))
        y, ends_h, ends_c = torch.stack(states, 1), *(torch.stack(each) for each in zip(*last, strict=True))
        return (
            (y.permute(2, 0, 1, 3), ends_h.transpose(0, 1), ends_c.transpose(0, 1)) if layout else (y, ends_h, ends_c)
        )

    return twin


SEQUENCES: dict[str, Callable[..., Any]] = {
    "ai.onnx.preview::FlexAttention": flex_attention,
    "Attention": attention,
    "DFT": dft,
    "GRU": recurrent(gru_step, 3),
    "LSTM": recurrent(lstm_step, 4),
    "RNN": recurrent(rnn_step, 1),
    "RotaryEmbedding": rotary,
    "STFT": stft,
}
