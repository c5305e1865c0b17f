"""One encoder ("stream") per modality, computed only for samples that have the modality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.compiler import is_exporting

from anymri.layers.convolution import fast

Stream = Callable[[Tensor], list[Tensor]]
# Outputs of the streams, in their order: one list of tensors per modality, None for a modality that no sample has.
Outputs = list[list[Tensor] | None]


def encode_each(streams: nn.ModuleDict | Mapping[str, Stream], images: Tensor, present: Tensor) -> list[Tensor]:
    """Return the outputs of all streams with the modalities stacked: (B, M, C, X, Y, Z) per scale.

    The arguments are those of `encode_existing`. Missing modalities are zero.
    """
    return stacked(encode_existing(streams, images, present))


def subset_sum(maps: Tensor, available: Tensor) -> Tensor:
    """Return the sum of the maps of the available modalities, (B, ...), in the layout of the maps.

    maps       (B, M, ...); those of missing modalities are finite
    available  (B, M) bool
    """
    if not fast(maps):
        return torch.einsum("bm,bm...->b...", available.to(maps.dtype), maps)
    terms = []
    for each, flags in zip(maps.unbind(1), available.unbind(1), strict=True):
        if flags.all():
            terms.append(each)
        elif flags.any():
            terms.append(each * flags.to(maps.dtype).view(-1, *[1] * (each.dim() - 1)))
    if len(terms) < 2:
        return terms[0] if terms else torch.zeros_like(maps[:, 0])
    total = terms[0] + terms[1]
    for term in terms[2:]:
        total += term
    return total


def _stacked(maps: Sequence[Tensor]) -> Tensor:
    """Return maps (B, C, X, Y, Z) as (B, M, C, X, Y, Z); channels that are last in memory stay last."""
    if maps[0].dim() == 5 and fast(maps[0]) and all(each.stride(1) == 1 for each in maps):
        return torch.stack([each.movedim(1, -1) for each in maps], dim=1).movedim(-1, 2)
    return torch.stack(list(maps), dim=1)


def stacked(outputs: Sequence[list[Tensor] | None]) -> list[Tensor]:
    """Return outputs of streams with the modalities stacked, (B, M, ...) each; missing modalities are zero."""
    blank = [torch.zeros_like(scale) for scale in next(scales for scales in outputs if scales is not None)]
    return [_stacked(scale) for scale in zip(*(scales or blank for scales in outputs), strict=True)]


def encode_existing(streams: nn.ModuleDict | Mapping[str, Stream], images: Tensor, present: Tensor) -> Outputs:
    """Return one list of outputs per modality, each (B, C, X, Y, Z); None for a modality that every sample misses.

    Outputs are zero in samples without the modality.

    streams  one per modality, in the order of the channels of `images`; each maps (B, 1, X, Y, Z) to a list of tensors,
             such as the scales of an encoder
    images   (B, M, X, Y, Z) float; voxels of missing modalities are not read
    present  (B, M) bool, at least one true per sample
    """
    each: Iterable[Stream] = streams.values()
    return [_encode_existing(stream, images[:, i : i + 1], present[:, i]) for i, stream in enumerate(each)]


def _encode_existing(stream: Stream, image: Tensor, exists: Tensor) -> list[Tensor] | None:
    if is_exporting():  # a graph computes all samples, because it cannot depend on values
        return [s.where(exists.view(-1, *[1] * (s.ndim - 1)), s.new_zeros(())) for s in stream(image)]
    if exists.all():
        return stream(image)
    if not exists.any():
        return None
    scales = stream(image[exists])
    return [s.new_zeros(len(image), *s.shape[1:]).index_copy(0, exists.nonzero()[:, 0], s) for s in scales]


def surely_all(flags: Tensor) -> bool:
    """Return whether all flags are true; false in a graph, whose flags have no values yet."""
    return not is_exporting() and bool(flags.all())


def surely_none(flags: Tensor) -> bool:
    """Return whether no flag is true; false in a graph, whose flags have no values yet."""
    return not is_exporting() and not flags.any()
