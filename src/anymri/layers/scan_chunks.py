"""One slab of a selective scan: chunks of the sequence that advance in parallel (see `selective_scan`).

Letters: S samples; G tokens per group; D channels with N numbers of state each; T tokens and E groups per chunk; P
chunks of all samples together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

# Parallel chunks of a slab, and tokens per chunk. Rows of 128 numbers are long enough for vector instructions, and
# carrying 128 states takes little time beside the steps. A short sequence is one chunk, from its true initial state.
CPU_LANES = 128
STEPS = 160
SHORTEST_CHUNK = 24
# Numbers of the states that advance in one step: few enough for a CPU's second-level cache, enough to fill a GPU.
CPU_STATES = 2**15
GPU_STATES = 2**19
# Tokens whose factors and inputs are computed in one call: enough that calls cost little, few enough for the cache.
TOKENS_PER_CALL = 5
# exp2 takes half as long as exp on a CPU.
LOG2_E = 1 / log(2)


def slab_length(group: int, states: int, device: torch.device) -> int:
    """Return the number of groups per slab; callers best compute the tokens in pieces of this length.

    group   G, tokens per group
    states  D * N
    """
    return _lanes(states, device) * max(1, STEPS // group)


def _lanes(states: int, device: torch.device) -> int:
    return CPU_LANES if device.type == "cpu" else max(1, GPU_STATES // states)


def slabs(like: Tensor, states: int) -> Iterator[Slab]:
    """Yield the slabs of a sequence, first to last.

    like    (S, G, C, V): any tensor of the sequence
    states  D * N
    """
    group, length = like.shape[1], like.shape[3]
    start = 0
    while start < length:
        lanes = _lanes(states, like.device)
        if (length - start) * group < lanes * SHORTEST_CHUNK:
            lanes = 1
        steps = min(ceil((length - start) / lanes), max(1, STEPS // group))
        yield Slab(slice(start, start + lanes * steps), group, lanes, steps)
        start += lanes * steps


@dataclass(frozen=True)
class Slab:
    """Piece of a sequence that is cut into parallel chunks. Folded, its tokens are (T, C, P).

    span   the groups of the sequence
    group  G, tokens per group
    lanes  number of chunks
    steps  groups per chunk
    """

    span: slice
    group: int
    lanes: int
    steps: int

    def fold(self, tokens: Tensor) -> Tensor:
        """Return this slab of (S, G, C, V) as (T, C, P), padded with zeros, where delta is 0 and states do not change.

        An empty sequence, V = 0, gives (0, C, P).
        """
        tokens = tokens[..., self.span]
        samples, group, channels, length = tokens.shape
        if not length:
            return tokens.new_empty(0, channels, samples * self.lanes)
        if length < self.lanes * self.steps:
            tokens = pad(tokens, (0, self.lanes * self.steps - length))
        if samples == 1:
            # torch transposes a matrix faster than it permutes in general.
            folded = tokens.reshape(-1, self.steps).t().contiguous()
        else:
            folded = tokens.view(samples, group, channels, self.lanes, self.steps).permute(4, 1, 2, 0, 3).contiguous()
        return folded.view(self.steps * group, channels, samples * self.lanes)

    def unfold(self, folded: Tensor, into: Tensor) -> None:
        """Write a folded slab, (T, C, P), to its place in the sequence `into`, (S, G, C, V)."""
        place = into[..., self.span]
        samples, group, channels, length = place.shape
        if length:
            tokens = folded.view(self.steps, group, channels, samples, self.lanes).permute(3, 1, 2, 4, 0)
            place.copy_(tokens.flatten(3)[..., :length])

    def blocks(self, starts: Tensor) -> Iterator[slice]:
        """Yield blocks of channels that advance together; `starts` is (N, D, P)."""
        numbers, channels, chunks = starts.shape
        size = max(1, (CPU_STATES if starts.device.type == "cpu" else GPU_STATES) // (numbers * chunks))
        return (slice(first, first + size) for first in range(0, channels, size))

    def spread(self, state: Tensor) -> Tensor:
        """Return the states at the start of chunks, (N, D, P): `state`, (S, D, N), or zero with several chunks."""
        if self.lanes == 1:
            return state.permute(2, 1, 0).contiguous()
        return state.new_zeros(*state.shape[:0:-1], len(state) * self.lanes)

    def carry(self, end: Tensor, factor: Tensor, state: Tensor, backwards: bool = False) -> tuple[Tensor, Tensor]:
        """Return the true state at the start of each chunk, (N, D, P), and the state after the last, (S, D, N).

        end        (N, D, P): state at the end of a chunk that starts from zero
        factor     (N, D, P): decay of a state from the start to the end of the chunk
        state      (S, D, N) before the first chunk
        backwards  carry gradients from the last chunk to the first instead
        """
        shape = (*end.shape[:2], len(state), self.lanes)
        by_lane = (each.view(shape).permute(3, 2, 1, 0).contiguous() for each in (end, factor))
        chunks = list(zip(*by_lane, strict=True))
        starts = []
        for added, decay in reversed(chunks) if backwards else chunks:
            starts.append(state)
            state = torch.addcmul(added, decay, state)
        stacked = torch.stack(starts[::-1] if backwards else starts, dim=-1)
        return stacked.permute(2, 1, 0, 3).reshape(end.shape), state


class Tokens(NamedTuple):
    """Folded inputs of the scan.

    u, delta  (T, D, P)
    B         (T, N, P)
    C         (E, N, P), or (0, N, P) without outputs
    """

    u: Tensor
    delta: Tensor
    B: Tensor
    C: Tensor


class Block:
    """Some channels of a slab, with the forward and the backward pass through them."""

    def __init__(self, slab: Slab, tokens: Tokens, A: Tensor, channels: slice) -> None:
        self.slab = slab
        self.channels = channels
        self.u, self.delta = tokens.u[:, channels], tokens.delta[:, channels]
        self.inputs = self.u * self.delta
        self.A = A[channels].mT[..., None].contiguous()
        self.decay = self.A * LOG2_E
        self.B, self.C = tokens.B[:, :, None], tokens.C[:, :, None]

    def scan(self, state: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states at the start of chunks, (N, D, P), and after the slab, (S, D, N); fill `outputs`.

        state    (S, D, N) before the slab
        outputs  (E, D, P)
        """
        slab, start = self.slab, self.slab.spread(state)
        read = start.new_empty(len(self.C), *start.shape)
        end = self._advance(start, read)
        if slab.lanes == 1:
            last = end.permute(2, 1, 0).clone()
        else:
            passed = list(self.delta.reshape(slab.steps, slab.group, *end.shape[1:]).sum(1))
            for before, after in pairwise(passed):
                after.add_(before)
            start, last = slab.carry(end, self._factors(passed[-1]), state)
            for state_read, time in zip(read, passed, strict=False):
                state_read.addcmul_(self._factors(time), start)
        for first in range(0, len(read), TOKENS_PER_CALL):
            piece = slice(first, first + TOKENS_PER_CALL)
            outputs[piece] = read[piece].mul_(self.C[piece]).sum(1)
        return start, last

    def _factors(self, time: Tensor) -> Tensor:
        """Return the decay exp(A * time) of states, (N, D, P), over a time (D, P)."""
        return torch.mul(self.decay, time).exp2_()

    def _advance(self, state: Tensor, read: Tensor) -> Tensor:
        """Return the states at the end of all chunks, (N, D, P); fill `read`, (E, N, D, P), with those of outputs."""
        factors, added = (state.new_empty(TOKENS_PER_CALL, *state.shape) for _ in range(2))
        end = torch.empty_like(state)
        one_by_one = list(zip(factors, added, strict=True))
        t = 0
        for first in range(0, len(self.delta), TOKENS_PER_CALL):
            piece = slice(first, first + TOKENS_PER_CALL)
            count = len(self.delta[piece])
            torch.mul(self.decay, self.delta[piece, None], out=factors[:count]).exp2_()
            torch.mul(self.inputs[piece, None], self.B[piece], out=added[:count])
            for factor, new in one_by_one[:count]:
                t += 1
                if len(read) and t % self.slab.group == 0:
                    into = read[t // self.slab.group - 1]
                else:
                    into = new if t < first + count else end
                state = torch.addcmul(new, factor, state, out=into)
        return state

    def differentiate(
        self, starts: Tensor, towards: Tensor, grad_last: Tensor, grads: Tokens, workspace: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of A, (D, N), and of the state before the slab, (S, D, N).

        starts     (N, D, P) from `scan`
        towards    (E, D, P): gradient of the outputs
        grad_last  (S, D, N): gradient of the state after the slab
        grads      gradients of all channels, to which those of this block are added
        workspace  memory for 2 * (T + 1) states, flat
        """
        slab, time = self.slab, self.delta[:, None]
        factors, states = self._states(starts, workspace.view(2, -1, *starts.shape))
        grad = slab.spread(grad_last)
        grad_state = grad.permute(2, 1, 0)
        if slab.lanes > 1:
            for _ in self._retreat(factors, towards, grad):
                pass
            grad, grad_state = slab.carry(grad, self._factors(self.delta.sum(0)), grad_last, backwards=True)
        grad_A, products = torch.zeros_like(starts), torch.empty_like(states[:TOKENS_PER_CALL])
        for piece, each in self._retreat(factors, towards, grad):
            product = products[: len(each)]
            to_inputs = torch.mul(each, self.B[piece], out=product).sum(1)
            grads.B[piece] += torch.mul(each, self.inputs[piece, None], out=product).sum(2)
            # From here on, `each` is the gradient of the exponent, delta times A.
            each.mul_(factors[piece]).mul_(states[:-1][piece])
            grad_A += torch.mul(each, time[piece], out=product).sum(0)
            grads.u[piece, self.channels] = to_inputs * self.delta[piece]
            grads.delta[piece, self.channels] = each.mul_(self.A).sum(1) + to_inputs * self.u[piece]
        if len(self.C):
            grads.C.add_((states[slab.group :: slab.group] * towards[:, None]).sum(2))
        return grad_A.sum(2).mT, grad_state

    def _states(self, starts: Tensor, workspace: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors of all tokens, (T, N, D, P), and the states before and after them, (T + 1, N, D, P)."""
        factors, states = workspace[0, :-1], workspace[1]
        states[0] = starts
        for first in range(0, len(factors), TOKENS_PER_CALL):
            piece = slice(first, first + TOKENS_PER_CALL)
            torch.mul(self.decay, self.delta[piece, None], out=factors[piece]).exp2_()
            torch.mul(self.inputs[piece, None], self.B[piece], out=states[1:][piece])
            for t in range(len(factors))[piece]:
                states[t + 1].addcmul_(factors[t], states[t])
        return factors, states

    def _retreat(self, factors: Tensor, towards: Tensor, grad: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield, from the last tokens to the first, a slice of tokens and the gradients of the states after them.

        The gradients are (t, N, D, P), and are overwritten in the next step.

        grad  (N, D, P): gradient of the state after the last token, from later tokens; at the end, overwritten with
              that of the state before the first
        """
        tokens, group = range(len(factors)), self.slab.group
        buffer = grad.new_empty(TOKENS_PER_CALL, *grad.shape)
        for first in reversed(tokens[::TOKENS_PER_CALL]):
            piece = slice(first, first + TOKENS_PER_CALL)
            grads = buffer[: len(tokens[piece])]
            grads[-1] = grad
            for t in reversed(tokens[piece]):
                current = grads[t - first]
                if t - first + 1 < len(grads):
                    torch.mul(grads[t - first + 1], factors[t + 1], out=current)
                if len(towards) and (t + 1) % group == 0:
                    current.addcmul_(self.C[t // group], towards[t // group])
            torch.mul(grads[0], factors[first], out=grad)
            yield piece, grads
