"""Find systems by name: those of anymri, and those of other packages by the entry-point group `anymri.systems`.

An entry point names a module with `CARD`, a `Card`, and `spec()`, which returns a `SystemSpec`. Modules are imported
to read their cards, so they must not import torch outside `spec`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from anymri.errors import ConfigurationError, UnknownSystemError, did_you_mean
from anymri.systems import (
    im_fuse,
    m3ae,
    mam,
    mmformer,
    ra_hved,
    robust_mseg,
    sfusion,
    shaspec,
    u_hved,
    unet_dropout,
    xlstm_hved,
)
from anymri.systems.card import Card
from anymri.text import shown

if TYPE_CHECKING:
    from anymri.systems.contract import System
    from anymri.systems.spec import SystemSpec

GROUP = "anymri.systems"


class SystemModule(Protocol):
    """Module that describes one system."""

    CARD: Card

    def spec(self) -> SystemSpec:
        """Return network, recipes, objectives and converter."""


_BUILT_IN: tuple[SystemModule, ...] = (
    u_hved,
    ra_hved,
    xlstm_hved,
    mmformer,
    im_fuse,
    shaspec,
    robust_mseg,
    sfusion,
    m3ae,
    mam,
    unet_dropout,
)


@cache
def _modules() -> Mapping[str, SystemModule]:
    """Return name -> module; a package from outside cannot replace a system of anymri."""
    found = {module.CARD.name: module for module in _BUILT_IN}
    for entry in entry_points(group=GROUP):
        try:
            module: SystemModule = entry.load()
            name = module.CARD.name
        except Exception as error:
            raise ConfigurationError(
                f"The system {entry.name!r} of the entry point {entry.value!r} cannot be loaded ({error!r}).",
                "Repair or uninstall the package that provides it.",
            ) from error
        if name in found:
            raise ConfigurationError(
                f"The entry point {entry.value!r} provides a system named {name!r}, which exists already.",
                "Rename the system in its card, or uninstall the package.",
            )
        found[name] = module
    return found


def names() -> list[str]:
    """Return the names of all systems."""
    return list(_modules())


def card(name: str) -> Card:
    """Return the card of a system; raise `UnknownSystemError` with the closest name if there is none."""
    return _module(name).CARD


def spec(name: str) -> SystemSpec:
    """Return network, recipes, objectives and converter of a system; imports torch."""
    return _module(name).spec()


def _module(name: str) -> SystemModule:
    modules = _modules()
    if name not in modules:
        hint = did_you_mean(name, modules)
        raise UnknownSystemError(f"There is no system named {shown(name)}.", f"{hint}Known: {', '.join(modules)}.")
    return modules[name]


def check_recipe(system: str, name: str, recipes: Collection[str]) -> None:
    """Raise `ConfigurationError` with the closest name unless a recipe is one of those of a system."""
    if name not in recipes:
        raise ConfigurationError(
            f"{system} has no recipe {shown(name)}.",
            f"{did_you_mean(name, recipes)}Choose one of {', '.join(recipes)}; see: anymri systems {system}",
        )


def create(name: str, preset: str | None = None, **network: Any) -> System[Any]:
    """Return a system with random weights, in evaluation mode.

    preset   one of the card's presets; the first ("published") by default
    network  arguments of the network, which override the preset

    >>> import anymri, torch
    >>> system = anymri.create("u_hved", preset="nano")
    >>> flair = t1c = torch.rand(1, 32, 32, 32)  # (B, X, Y, Z)
    >>> images, present = system.stack({"flair": flair, "t1ce": t1c})
    >>> system(images, present).probabilities().shape  # (B, classes, X, Y, Z)
    torch.Size([1, 4, 32, 32, 32])
    """
    presets = card(name).presets
    if preset is None:
        preset = next(iter(presets))
    if preset not in presets:
        raise ConfigurationError(
            f"{name} does not have a preset {shown(preset)}.", f"Choose one of {', '.join(presets)}."
        )
    return build(name, {**presets[preset], **network})


def build(name: str, network: Mapping[str, Any]) -> System[Any]:
    """Return a system with random weights from the arguments of its network, in evaluation mode."""
    switches = card(name).switches
    for argument in network:
        if argument not in switches and argument not in ("num_classes", "modalities"):
            hint = did_you_mean(argument, switches)
            raise ConfigurationError(
                f"The network of {name} does not have an option {shown(argument)}.",
                f"{hint}Its options are {', '.join(switches)}; see: anymri systems {name}",
            )
    from anymri.systems.arguments import checked_arguments

    kind = spec(name).network
    arguments = checked_arguments(name, kind, network)
    try:
        return kind(**arguments).eval()
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"{name} cannot be built with {shown(dict(network), 200)}.",
            f"Its options are {', '.join(switches)}; see: anymri systems {name}",
        ) from error
