"""The plain form of the mLSTM, with all its S x S matrices: the reference of tests and benchmarks."""

from math import sqrt

import torch
from torch.nn.functional import logsigmoid

# Of the published code; the normaliser is at least this.
EPS = 1e-6


def parallel_mlstm(query, key, value, input_gate, forget_gate):
    """Return the output (..., S, D) of query, key and value (..., S, D) and of gates (..., S)."""
    total = logsigmoid(forget_gate).cumsum(-1)
    log_weights = total[..., :, None] - total[..., None, :] + input_gate[..., None, :]
    future = torch.ones(log_weights.shape[-2:], dtype=torch.bool).triu(1)
    log_weights = log_weights.masked_fill(future, -torch.inf)
    maximum = log_weights.amax(-1, keepdim=True)
    weights = query @ key.mT / sqrt(query.shape[-1]) * (log_weights - maximum).exp()
    normaliser = torch.maximum(weights.sum(-1, keepdim=True).abs(), (-maximum).exp())
    return weights @ value / (normaliser + EPS)
