"""Pieces of large tensors, whose intermediate results stay in the cache of a processor."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def pieces(like: Tensor, length: int) -> Iterator[tuple[int, slice]]:
    """Yield sample and range of elements of the pieces of a (B, C, E) tensor, of at most `length` elements each."""
    for sample in range(len(like)):
        for start in range(0, like.shape[-1], length):
            yield sample, slice(start, start + length)
