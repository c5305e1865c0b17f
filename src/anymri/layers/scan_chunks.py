"""What the selective scan does to one slab of a sequence: chunks that advance side by side (see `selective_scan`).

Letters: S samples; G tokens a group; D channels with N numbers of state each; T tokens and E groups a chunk; P chunks
of all samples together.
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

# Chunks side by side and the tokens of each: rows of 128 numbers are long enough for vectors, and the carrying of 128
# states is little beside the steps. A short sequence goes in one chunk, from the state that it truly starts with.
CPU_LANES = 128
STEPS = 160
SHORTEST_CHUNK = 24
# Numbers in the states that advance in one step: they stay in a CPU's second cache, and keep a GPU busy.
CPU_STATES = 2**15
GPU_STATES = 2**19
# Tokens whose factors and inputs are computed in one go: enough that calls cost little, few enough for the cache.
TOGETHER = 5
# exp2 takes half as long as exp on a CPU.
LOG2_E = 1 / log(2)


def slab_length(group: int, states: int, device: torch.device) -> int:
    """How many groups of tokens advance together; whoever makes the tokens may as well make so many at a time.

    states  D * N
    """
    return _lanes(states, device) * max(1, STEPS // group)


def _lanes(states: int, device: torch.device) -> int:
    return CPU_LANES if device.type == "cpu" else max(1, GPU_STATES // states)


def slabs(like: Tensor, states: int) -> Iterator[Slab]:
    """The slabs of a sequence (S, G, C, V), first to last."""
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
    """A stretch of the sequence, cut into `lanes` chunks of `steps` groups each. Folded, its tokens are (T, C, P)."""

    span: slice
    group: int
    lanes: int
    steps: int

    def fold(self, tokens: Tensor) -> Tensor:
        """This slab of (S, G, C, V) as (T, C, P), filled up with zeros: no time goes by there, states stay.

        Nothing, V = 0, is (0, C, P).
        """
        tokens = tokens[..., self.span]
        samples, group, channels, length = tokens.shape
        if not length:
            return tokens.new_empty(0, channels, samples * self.lanes)
        if length < self.lanes * self.steps:
            tokens = pad(tokens, (0, self.lanes * self.steps - length))
        if samples == 1:
            # A plain transposition of a matrix, which torch does faster than the general case.
            folded = tokens.reshape(-1, self.steps).t().contiguous()
        else:
            folded = tokens.view(samples, group, channels, self.lanes, self.steps).permute(4, 1, 2, 0, 3).contiguous()
        return folded.view(self.steps * group, channels, samples * self.lanes)

    def unfold(self, folded: Tensor, into: Tensor) -> None:
        """(T, C, P) to its place in (S, G, C, V)."""
        place = into[..., self.span]
        samples, group, channels, length = place.shape
        if length:
            tokens = folded.view(self.steps, group, channels, samples, self.lanes).permute(3, 1, 2, 4, 0)
            place.copy_(tokens.flatten(3)[..., :length])

    def blocks(self, starts: Tensor) -> Iterator[slice]:
        """Channels whose states, (N, D, P) in all, advance together."""
        numbers, channels, chunks = starts.shape
        size = max(1, (CPU_STATES if starts.device.type == "cpu" else GPU_STATES) // (numbers * chunks))
        return (slice(first, first + size) for first in range(0, channels, size))

    def spread(self, state: Tensor) -> Tensor:
        """One state a sample, (S, D, N), as the start of its only chunk, (N, D, P); zero where there are several."""
        if self.lanes == 1:
            return state.permute(2, 1, 0).contiguous()
        return state.new_zeros(*state.shape[:0:-1], len(state) * self.lanes)

    def carry(self, end: Tensor, factor: Tensor, state: Tensor, backwards: bool = False) -> tuple[Tensor, Tensor]:
        """What each chunk starts with, (N, D, P), and the state behind the last of them, (S, D, N).

        end, factor  (N, D, P): what a chunk ends with if it starts from zero, and what it leaves of a start
        state        (S, D, N) before the first chunk, or `backwards` before the last
        """
        shape = (*end.shape[:2], len(state), self.lanes)
        by_lane = (each.view(shape).permute(3, 2, 1, 0).contiguous() for each in (end, factor))
        chunks = list(zip(*by_lane, strict=True))
        starts = []
        for own, left in reversed(chunks) if backwards else chunks:
            starts.append(state)
            state = torch.addcmul(own, left, state)
        found = torch.stack(starts[::-1] if backwards else starts, dim=-1)
        return found.permute(2, 1, 0, 3).reshape(end.shape), state


class Tokens(NamedTuple):
    """Folded: u and delta (T, D, P), B (T, N, P), C (E, N, P), or (0, N, P) where no token reads."""

    u: Tensor
    delta: Tensor
    B: Tensor
    C: Tensor


class Block:
    """Some channels of a slab."""

    def __init__(self, slab: Slab, tokens: Tokens, A: Tensor, channels: slice) -> None:
        self.slab = slab
        self.channels = channels
        self.u, self.delta = tokens.u[:, channels], tokens.delta[:, channels]
        self.inputs = self.u * self.delta
        self.A = A[channels].mT[..., None].contiguous()
        self.decay = self.A * LOG2_E
        self.B, self.C = tokens.B[:, :, None], tokens.C[:, :, None]

    def scan(self, state: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Writes what is read, (E, D, P); returns what chunks start with, (N, D, P), and the last state, (S, D, N)."""
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
        for first in range(0, len(read), TOGETHER):
            piece = slice(first, first + TOGETHER)
            answers[piece] = read[piece].mul_(self.C[piece]).sum(1)
        return start, last

    def _factors(self, time: Tensor) -> Tensor:
        return torch.mul(self.decay, time).exp2_()

    def _advance(self, state: Tensor, read: Tensor) -> Tensor:
        """From a start to the end of all chunks, (N, D, P); keeps the states that are read, (E, N, D, P)."""
        factors, added = (state.new_empty(TOGETHER, *state.shape) for _ in range(2))
        end = torch.empty_like(state)
        one_by_one = list(zip(factors, added, strict=True))
        t = 0
        for first in range(0, len(self.delta), TOGETHER):
            piece = slice(first, first + TOGETHER)
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
        self, starts: Tensor, towards: Tensor, grad_last: Tensor, grads: Tokens, room: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of A, (D, N), and of the state before the slab, (S, D, N).

        starts     (N, D, P) from `scan`
        towards    (E, D, P) gradient of what is read
        grad_last  (S, D, N) of the state behind the slab
        grads      of all channels: this block's part is added
        room       for two times T + 1 states
        """
        slab, time = self.slab, self.delta[:, None]
        factors, states = self._states(starts, room.view(2, -1, *starts.shape))
        grad = slab.spread(grad_last)
        grad_state = grad.permute(2, 1, 0)
        if slab.lanes > 1:
            for _ in self._retreat(factors, towards, grad):
                pass
            grad, grad_state = slab.carry(grad, self._factors(self.delta.sum(0)), grad_last, backwards=True)
        grad_A, products = torch.zeros_like(starts), torch.empty_like(states[:TOGETHER])
        for piece, each in self._retreat(factors, towards, grad):
            product = products[: len(each)]
            to_inputs = torch.mul(each, self.B[piece], out=product).sum(1)
            grads.B[piece] += torch.mul(each, self.inputs[piece, None], out=product).sum(2)
            # From here on the gradient of the exponent, delta times A.
            each.mul_(factors[piece]).mul_(states[:-1][piece])
            grad_A += torch.mul(each, time[piece], out=product).sum(0)
            grads.u[piece, self.channels] = to_inputs * self.delta[piece]
            grads.delta[piece, self.channels] = each.mul_(self.A).sum(1) + to_inputs * self.u[piece]
        if len(self.C):
            grads.C.add_((states[slab.group :: slab.group] * towards[:, None]).sum(2))
        return grad_A.sum(2).mT, grad_state

    def _states(self, starts: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of all tokens, (T, N, D, P), and the states before them and behind the last, (T + 1, N, D, P)."""
        factors, states = room[0, :-1], room[1]
        states[0] = starts
        for first in range(0, len(factors), TOGETHER):
            piece = slice(first, first + TOGETHER)
            torch.mul(self.decay, self.delta[piece, None], out=factors[piece]).exp2_()
            torch.mul(self.inputs[piece, None], self.B[piece], out=states[1:][piece])
            for t in range(len(factors))[piece]:
                states[t + 1].addcmul_(factors[t], states[t])
        return factors, states

    def _retreat(self, factors: Tensor, towards: Tensor, grad: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """From the last token to the first, a few at a time: gradients of the states behind them, (t, N, D, P).

        grad  (N, D, P) of the state behind the last token, as later ones see it; in the end, of that before the first
        """
        tokens, group = range(len(factors)), self.slab.group
        buffer = grad.new_empty(TOGETHER, *grad.shape)
        for first in reversed(tokens[::TOGETHER]):
            piece = slice(first, first + TOGETHER)
            grads = buffer[: len(tokens[piece])]
            grads[-1] = grad
            for t in reversed(tokens[piece]):
                own = grads[t - first]
                if t - first + 1 < len(grads):
                    torch.mul(grads[t - first + 1], factors[t + 1], out=own)
                if len(towards) and (t + 1) % group == 0:
                    own.addcmul_(self.C[t // group], towards[t // group])
            torch.mul(grads[0], factors[first], out=grad)
            yield piece, grads
