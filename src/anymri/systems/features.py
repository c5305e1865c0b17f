"""Intermediate features of any system, by the names of its modules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from anymri.errors import ConfigurationError, did_you_mean
from anymri.systems.contract import System
from anymri.text import shown


def features(system: System[Any], images: Tensor, available: Tensor, names: Sequence[str]) -> dict[str, list[Tensor]]:
    """Return the outputs of modules in one forward pass, with gradients where they are enabled.

    system     a network, as of `anymri.create` or `anymri.load(...).system`
    images     (B, 4, X, Y, Z) float32 as the network takes them: T1, T1c, T2, FLAIR
    available  (B, 4) bool: the modalities that the network uses
    names      names of `system.named_modules()`, or patterns with * and ?, such as "encoders.*.levels.3"
    returns    name of each module that ran -> its outputs, one per call, in the order of the calls. An output that is
               not a tensor is left out

    Raises `ConfigurationError` for a name that no module has, or that none of those that ran has.

    >>> import anymri, torch
    >>> system = anymri.create("u_hved", preset="nano", width=4).eval()
    >>> images, available = torch.zeros(1, 4, 32, 32, 32), torch.tensor([[False, True, False, True]])
    >>> found = anymri.features(system, images, available, ["encoders.T1c.*"])
    >>> all(name.startswith("encoders.T1c.") for name in found)
    True
    """
    modules = dict(system.named_modules())
    chosen = {name for name in modules if any(fnmatchcase(name, pattern) for pattern in names)}
    found: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.setdefault(name, []).append(output.clone())  # systems add to some outputs in place

        return hook

    for pattern in names:
        if not any(fnmatchcase(name, pattern) for name in modules):
            raise ConfigurationError(
                f"{type(system).__name__} has no module {shown(pattern)}.",
                f"{did_you_mean(pattern, modules)}Its modules: [name for name, _ in system.named_modules()]",
            )
    with ExitStack() as hooks:
        for name in chosen:
            handle = modules[name].register_forward_hook(keep(name))
            hooks.callback(handle.remove)
        system(images, available)
    for pattern in names:
        if not any(fnmatchcase(name, pattern) for name in found):
            raise ConfigurationError(
                f"No module {shown(pattern)} ran, or none returned a tensor.",
                "Choose modules inside it or around it: the system computes these layers by their weights, or the "
                "modalities that they are for are not available.",
            )
    return found
