"""The published systems and a yardstick: one folder each, found by name. Torch is imported when one is created."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.errors import ConfigurationError, UnknownSystemError, WeightsError
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
from anymri.systems.cards import Card

if TYPE_CHECKING:
    from torch import Tensor, nn

    from anymri.systems.base import System
    from anymri.systems.converting import Converted
    from anymri.systems.recipes import Recipe

_PACKAGES = {
    package.CARD.name: package
    for package in (
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
}


@dataclass(frozen=True)
class Parts:
    """What a system is made of.

    network              its class
    recipes              recipe name -> recipe
    objectives           name -> function of (system, batch) to named losses, `total` the one minimised
    segmentation_losses  probabilities (B, K, X, Y, Z), labels (B, X, Y, Z) -> named losses; their sum judges validation
    convert              the authors' checkpoint -> network arguments and state dict; None where there are no authors
    discriminators       name of an objective -> maker of the network that it trains the system against, a function of
                         the system. Such an objective takes that network as third argument, and names what it
                         minimises `discriminator`
    """

    network: type[System[Any]]
    recipes: Mapping[str, Recipe]
    objectives: Mapping[str, Callable[..., dict[str, Tensor]]]
    segmentation_losses: Callable[[Tensor, Tensor], dict[str, Tensor]]
    convert: Callable[[Mapping[str, Any]], Converted] | None
    discriminators: Mapping[str, Callable[[Any, int], nn.Module]] = field(default_factory=dict)


def names() -> list[str]:
    """Names of all systems."""
    return list(_PACKAGES)


def card(name: str) -> Card:
    """The card of a system; raises `UnknownSystemError` with the closest name."""
    if name not in _PACKAGES:
        close = difflib.get_close_matches(name, _PACKAGES, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise UnknownSystemError(f"There is no system named {name!r}.", f"{hint}Known: {', '.join(_PACKAGES)}.")
    found: Card = _PACKAGES[name].CARD
    return found


def parts(name: str) -> Parts:
    """Network, recipes, objectives and converter of a system; imports torch."""
    card(name)
    found: Parts = _PACKAGES[name].parts()
    return found


def create(name: str, preset: str = "published", weights: Path | str | None = None, **network: Any) -> System[Any]:
    """A system by name, in evaluation mode.

    preset   a row of the card's presets; `network` arguments override it
    weights  a run folder or weights file of this system: its network is built as trained, the preset does not matter

    >>> system = create("u_hved", preset="nano")
    >>> images, present = system.stack({"flair": flair, "t1ce": t1c})  # (B, X, Y, Z) each
    >>> system(images, present).probabilities()  # (B, 4, X, Y, Z)
    """
    if weights is not None:
        from anymri.systems.weights import load_weights

        loaded, weights_card = load_weights(Path(weights))
        if weights_card.system != name or network:
            raise WeightsError(
                f"{weights} holds weights of {weights_card.system} with {weights_card.network}.",
                f"Ask for it as create({weights_card.system!r}, weights=...), without other arguments.",
            )
        return loaded
    presets = card(name).presets
    if preset not in presets:
        raise ConfigurationError(f"{name} has no preset {preset!r}.", f"Choose one of {', '.join(presets)}.")
    return build(name, {**presets[preset], **network})


def build(name: str, network: Mapping[str, Any]) -> System[Any]:
    """A system with fresh weights from the arguments of its network, in evaluation mode."""
    try:
        return parts(name).network(**network).eval()
    except TypeError as error:
        raise ConfigurationError(
            f"{name} cannot be built with {dict(network)}: {error}.",
            f"Its switches are {', '.join(card(name).switches)}; see: anymri systems {name}",
        ) from error
