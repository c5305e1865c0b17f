"""One stream a modality: what does not exist is never computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

Stream = Callable[[Tensor], list[Tensor]]


def encode_each(streams: nn.ModuleDict | Mapping[str, Stream], images: Tensor, present: Tensor) -> list[Tensor]:
    """All modalities through their streams, scale by scale: (B, M, C, X, Y, Z) each, zero where one is absent.

    streams  one a modality, in the order of the channels of `images`; (B, 1, X, Y, Z) to a list of scales
    images   (B, M, X, Y, Z)
    present  (B, M) bool, at least one true in each sample
    """
    each: Iterable[Stream] = streams.values()
    found = [_encode_existing(stream, images[:, i : i + 1], present[:, i]) for i, stream in enumerate(each)]
    blank = [torch.zeros_like(scale) for scale in next(scales for scales in found if scales is not None)]
    return [torch.stack(scale, dim=1) for scale in zip(*(scales or blank for scales in found), strict=True)]


def _encode_existing(stream: Stream, image: Tensor, exists: Tensor) -> list[Tensor] | None:
    """The scales of one modality, zero for samples without it; None if no sample has it."""
    if exists.all():
        return stream(image)
    if not exists.any():
        return None
    scales = stream(image[exists])
    return [s.new_zeros(len(image), *s.shape[1:]).index_copy(0, exists.nonzero()[:, 0], s) for s in scales]
