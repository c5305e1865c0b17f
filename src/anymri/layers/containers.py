"""Lists and dictionaries of modules that keep the type of their items, which those of PyTorch lose.

They behave like `nn.ModuleList` and `nn.ModuleDict`, with the same parameter names. `outputs_of_levels` runs encoders.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class ModuleList(nn.ModuleList, Generic[M]):
    """List of modules of one type."""

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[M] = ()) -> None: ...
        def __iter__(self) -> Iterator[M]: ...
        @overload
        def __getitem__(self, idx: slice) -> ModuleList[M]: ...
        @overload
        def __getitem__(self, idx: int) -> M: ...
        def __getitem__(self, idx: int | slice) -> M | ModuleList[M]: ...


class ModuleDict(nn.ModuleDict, Generic[M]):
    """Dictionary of modules of one type."""

    if TYPE_CHECKING:

        def __init__(self, modules: Mapping[str, M] | None = None) -> None: ...
        def __getitem__(self, key: str) -> M: ...
        def values(self) -> ValuesView[M]: ...
        def items(self) -> ItemsView[str, M]: ...


def outputs_of_levels(levels: Iterable[nn.Module], features: Tensor) -> list[Tensor]:
    """Return the output of every level, each applied to the output of the level before.

    features  input of the first level, for example images (B, 1, X, Y, Z)
    """
    outputs: list[Tensor] = []
    for level in levels:
        features = level(features)
        outputs.append(features)
    return outputs
