"""mLSTM, a recurrent layer with a matrix memory, and the Vision-LSTM block with it.

Token t reads the tokens s <= t through q_t, k_s, v_s with weights from the gates. For each head, with
F_t = sum_(r <= t) log sigmoid(forget_r):

    log D[t, s] = F_t - F_s + input_s        m_t = max_s log D[t, s]        P = (q k^T / sqrt(D)) * exp(log D - m)
    output_t = sum_s P[t, s] v_s / (max(|sum_s P[t, s]|, exp(-m_t)) + 1e-6)

The parallel form keeps several S x S matrices. Here the sequence is processed in chunks: the formula within a chunk,
and a state for all tokens before it (the sum of exp(log D - m) k v^T, with its m), so that memory grows with S, not
with S^2. Weights are at most exp(0): gates of any value do not overflow. Sources: Beck et al. 2024 (xLSTM), Alkin et
al. 2024 (Vision-LSTM); sheet xlstm_hved, section 5.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

NORMALISER_EPS = 1e-6
NORM_EPS = 1e-5
KERNEL = 4
# A chunk of L tokens needs L x L weights per head; 64 keeps these small beside the features, and loops short.
CHUNK = 64
# With a larger exp(-m) the output is zero in any case; a little beyond, float32 overflows.
LARGEST_EXPONENT = 80.0


def mlstm(query: Tensor, key: Tensor, value: Tensor, input_gate: Tensor, forget_gate: Tensor) -> Tensor:
    """Return the values that each token reads from itself and the tokens before it, (B, H, S, D).

    query, key, value         (B, H, S, D) for H heads
    input_gate, forget_gate   (B, H, S), before exp and sigmoid

    Autograd keeps about 4 CHUNK + 8 D numbers per token and head for the backward pass.
    """
    length = query.shape[2]
    # With a last channel of ones, the sum of weights is one more value that is read.
    value = functional.pad(value, (0, 1), value=1.0)
    query, key, value = (_chunks(tokens) for tokens in (query / sqrt(query.shape[-1]), key, value))
    input_gate = _chunks(input_gate[..., None])[..., 0]
    log_forget = _chunks(functional.logsigmoid(forget_gate)[..., None])[..., 0]

    log_weights = _sums_between(log_forget) + input_gate[..., None, :]
    maximum = log_weights.amax(-1)
    memory_before, maximum_before = _states(log_weights[..., -1, :], log_forget.sum(-1), key, value)

    log_before = log_forget.cumsum(-1) + maximum_before[..., None]
    maximum = torch.maximum(maximum, log_before)[..., None]
    weights = query @ key.mT * (log_weights - maximum).exp()
    read = weights @ value + query @ memory_before * (log_before[..., None] - maximum).exp()
    normaliser = torch.maximum(read[..., -1:].abs(), (-maximum).clamp(max=LARGEST_EXPONENT).exp())
    output = read[..., :-1] / (normaliser + NORMALISER_EPS)
    return output.flatten(2, 3)[:, :, :length]


def _chunks(tokens: Tensor) -> Tensor:
    """Return (B, H, S, D) as (B, H, N, L, D); the padding at the end comes after all tokens that read."""
    tokens = functional.pad(tokens, (0, 0, 0, -tokens.shape[2] % CHUNK))
    return tokens.reshape(*tokens.shape[:2], -1, CHUNK, tokens.shape[3])


def _sums_between(steps: Tensor) -> Tensor:
    """Return the sums of the steps s+1 to t in row t, column s: (..., L) to (..., L, L), -inf above the diagonal.

    Each is summed alone: differences of running sums would lose small steps beside large ones.
    """
    causal = torch.ones(steps.shape[-1], steps.shape[-1], dtype=torch.bool, device=steps.device).tril()
    sums = steps[..., None].where(causal.tril(-1), 0.0).cumsum(-2)
    return sums.masked_fill(~causal, -torch.inf)


def _states(log_weights: Tensor, decay: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return the memory before each chunk, (B, H, N, D, D + 1), and the maximum m that scales it, as log, (B, H, N).

    log_weights  (B, H, N, L) of the tokens at the end of their chunk
    decay        (B, H, N) log forget gate of the whole chunk
    """
    chunk_maximum = log_weights.amax(-1)
    added = (key * (log_weights - chunk_maximum[..., None]).exp()[..., None]).mT @ value
    memory, maximum = torch.zeros_like(added[:, :, 0]), torch.full_like(decay[..., 0], -torch.inf)
    memories, maxima = [memory], [maximum]
    for n in range(decay.shape[-1] - 1):
        kept = maximum + decay[..., n]
        maximum = torch.maximum(kept, chunk_maximum[..., n])
        old, new = (kept - maximum).exp(), (chunk_maximum[..., n] - maximum).exp()
        memory = memory * old[..., None, None] + added[:, :, n] * new[..., None, None]
        memories.append(memory)
        maxima.append(maximum)
    return torch.stack(memories, 2), torch.stack(maxima, 2)


class BlockLinear(nn.Module):
    """Linear layer without bias within each block of `block` neighbouring channels, (..., C) to (..., C)."""

    def __init__(self, channels: int, block: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels // block, block, block))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mapped tokens, (..., C)."""
        blocks = tokens.reshape(*tokens.shape[:-1], -1, self.weight.shape[-1])
        return torch.einsum("...nd,nod->...no", blocks, self.weight).flatten(-2)


class GainNorm(nn.Module):
    """Normalisation of the channels of each token in `groups`, with gain 1 + weight and without bias, (..., C)."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the normalised tokens, (..., C)."""
        grouped = tokens.reshape(*tokens.shape[:-1], self.groups, -1)
        normed = functional.layer_norm(grouped, grouped.shape[-1:], eps=NORM_EPS)
        return normed.flatten(-2) * (1 + self.weight)


class VisionLSTM(nn.Module):
    """Residual mLSTM block over the voxels of a feature map (B, C, X, Y, Z) as one sequence, z fastest.

    It computes in at least float32, under autocast too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 2 * channels
        # Number of heads and block size are both 4 in the reference; where 4 does not divide the channels, both are 2.
        self.heads = 4 if channels % 4 == 0 else 2
        self.norm = GainNorm(channels)
        self.up = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, KERNEL, groups=inner)
        self.query = BlockLinear(inner, self.heads)
        self.key = BlockLinear(inner, self.heads)
        self.value = BlockLinear(inner, self.heads)
        self.input_gate = nn.Linear(3 * inner, self.heads)
        self.forget_gate = nn.Linear(3 * inner, self.heads)
        self.head_norm = GainNorm(inner, self.heads)
        self.skip = nn.Parameter(torch.ones(inner))
        self.down = nn.Linear(inner, channels, bias=False)
        self._initialise(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape, (B, C, X, Y, Z)."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            tokens = features.flatten(2).mT
            return features + self._read(self.norm(tokens)).mT.reshape(features.shape)

    def _read(self, tokens: Tensor) -> Tensor:
        """Return the update of the tokens, (B, S, C), before it is added to them."""
        values, gate = self.up(tokens).chunk(2, dim=-1)
        past = functional.pad(values.mT, (KERNEL - 1, 0))
        mixed = functional.silu(self.conv(past)).mT
        projected = self.query(mixed), self.key(mixed), self.value(values)
        query, key, value = (each.reshape(*each.shape[:2], self.heads, -1).transpose(1, 2) for each in projected)
        joined = torch.cat(projected, dim=-1)
        read = mlstm(query, key, value, self.input_gate(joined).mT, self.forget_gate(joined).mT)
        read = self.head_norm(read.transpose(1, 2).flatten(2)) + self.skip * mixed
        update: Tensor = self.down(read * functional.silu(gate))
        return update

    def _initialise(self, channels: int) -> None:
        """Draw the parameters by the rule of the layer: gates that ignore the tokens at first and keep the memory."""
        small = sqrt(2 / (5 * channels))
        for projection in (self.up, self.query, self.key, self.value):
            nn.init.normal_(projection.weight, std=small)
        nn.init.normal_(self.down.weight, std=2 / sqrt(channels))
        nn.init.zeros_(self.input_gate.weight)
        nn.init.normal_(self.input_gate.bias, std=0.1)
        nn.init.zeros_(self.forget_gate.weight)
        with torch.no_grad():
            self.forget_gate.bias.copy_(torch.linspace(3, 6, self.heads, device="cpu"))
