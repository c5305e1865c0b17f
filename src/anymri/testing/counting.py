"""Count the parameters and multiply-adds of a network at full size without computing anything."""

# Dispatch modes of torch are untyped.
# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from anymri.modalities import ALL, SUBSETS, Subset
from anymri.systems import registry

INDEXING = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
# Tokens that pass a Mamba layer at a time: slabs save memory alone.
WHOLE_SEQUENCE = 2**40


class _Shapes(TorchDispatchMode):
    """Mode in which operations of meta tensors and real ones give meta tensors; masks stay real and have values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if len({tensor.is_meta for tensor in tensors}) > 1:
            if func.overloadpacket in INDEXING:
                args = (args[0], [each for index in args[1] for each in _indices(index)], *args[2:])
            args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
        return func(*args, **(kwargs or {}))


def _indices(index: Tensor | None) -> Sequence[Tensor | None]:
    """Return a mask as the indices of its chosen elements, so that the shape of what it indexes is known."""
    return index.nonzero(as_tuple=True) if index is not None and index.dtype == torch.bool else [index]


def _scan_shapes(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return tensors of the shapes that `selective_scan` returns, which depend on the same parameters.

    The scan has neither convolutions nor matrix products, but thousands of small steps.
    """
    last = u.sum((1, 3))[..., None] * A + (delta.sum() + B.sum())
    read = u.new_zeros(len(u), A.shape[0], 0) if C is None else last.sum(-1, keepdim=True) + C.sum(1, keepdim=True)
    return read, last


@contextmanager
def _without_data() -> Iterator[None]:
    """Context in which operations of meta tensors compute shapes alone."""
    with (
        patch("anymri.layers.mamba.selective_scan", _scan_shapes),
        patch("anymri.layers.mamba.slab_length", lambda *_: WHOLE_SEQUENCE),
        patch("torch.autocast", lambda *_, **__: nullcontext()),  # it does not know the device "meta"
        sdpa_kernel(SDPBackend.MATH),  # the fused attention is not counted
        _Shapes(),
    ):
        yield


def _gmacs(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 2e9


def count_gmacs(name: str, side: int = 128) -> dict[str, float]:
    """Return the giga multiply-adds of a system's first preset on one cubic window, by what is computed.

    Convolutions and matrix products count; the keys are those of `Card.gmacs`. What depends on the weights alone
    counts once, in "15 subsets".

    side  of the window in voxels; systems with weights for each position are built for it
    """
    crop: dict[str, Any] = {"crop": side} if "crop" in registry.card(name).switches else {}
    with torch.device("meta"):
        # The counter puts hooks on gradients, which do not exist here.
        system = registry.create(name, **crop).requires_grad_(False)
    images = torch.empty(1, len(system.modalities), side, side, side, device="meta")
    encodings: list[Any] = []
    with torch.no_grad(), _without_data(), system.folded_weights():
        encode = _gmacs(lambda: encodings.append(system.encode(images, ALL.as_tensor())))
        # Modalities are alike, so the cost of a subset depends on its size. What depends on the weights alone is
        # computed, and counted, with the first subset in which a modality is missing.
        first = _gmacs(partial(system.decode, encodings[0], _of_size(3).as_tensor()))
        decode = {
            size: _gmacs(partial(system.decode, encodings[0], _of_size(size).as_tensor())) for size in (1, 2, 3, 4)
        }
    return {
        "encode four modalities": encode,
        "decode one subset": decode[4],
        "decode all four": decode[4],
        "decode one alone": decode[1],
        "15 subsets": encode + first - decode[3] + sum(decode[len(subset)] for subset in SUBSETS),
    }


def _of_size(size: int) -> Subset:
    return next(subset for subset in SUBSETS if len(subset) == size)


def count_parameters(name: str) -> tuple[int, int]:
    """Return the number of parameters of a system's first preset, and how many of them segmentation uses."""
    with torch.device("meta"):
        system = registry.create(name)
    images = torch.empty(1, len(system.modalities), *system.usable_crop((1, 1, 1)), device="meta")
    used: dict[int, Tensor] = {}
    with _without_data():
        for subset in (ALL, Subset.parse("T1")):
            logits = system.decode(system.encode(images, ALL.as_tensor()), subset.as_tensor()).logits
            used |= _parameters_behind(logits)
    return sum(p.numel() for p in system.parameters()), sum(p.numel() for p in used.values())


def _parameters_behind(output: Tensor) -> dict[int, Tensor]:
    """Return the parameters that the gradient of a tensor reaches, by their identity."""
    waiting, seen, found = [output.grad_fn], {output.grad_fn}, {}
    while waiting:
        node = waiting.pop()
        assert node is not None
        variable = getattr(node, "variable", None)
        if variable is not None:
            found[id(variable)] = variable
        following = {each for each, _ in node.next_functions if each is not None} - seen
        seen |= following
        waiting += following
    return found
