"""Description of a system that needs torch: network, recipes, objectives and converter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from anymri.systems.checkpoints import Converted
from anymri.systems.contract import System
from anymri.systems.losses import StepLoss
from anymri.systems.protocol import ReferenceProtocol
from anymri.systems.recipes.schema import Recipe

# Called with the system and the batch, and with the discriminator as third argument where the objective has one.
Objective = Callable[..., StepLoss]
# Called with probabilities (B, K, X, Y, Z) and labels (B, X, Y, Z).
SegmentationLosses = Callable[[Tensor, Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class SystemSpec:
    """Network, recipes, objectives and converter of one system.

    network              class of the network
    recipes              recipe name -> recipe: `reference` does what the authors' code does, `corrected`, the default,
                         differs in what a user would want mended; systems of ours have others, of which the first is
                         the default
    objectives           objective name -> function that computes the losses of one step
    segmentation_losses  function of probabilities (B, K, X, Y, Z) and labels (B, X, Y, Z) to named losses; validation
                         reports their sum
    convert              function of the authors' state dict to network arguments and our state dict; None for a system
                         without authors' weights, otherwise there is a recipe `reference`
    discriminators       objective name -> function of the system and a width to the discriminator that the objective
                         trains the system against
    protocol             how the authors test weights; None for a system without authors
    """

    network: type[System[Any]]
    recipes: Mapping[str, Recipe]
    objectives: Mapping[str, Objective]
    segmentation_losses: SegmentationLosses
    convert: Callable[[Mapping[str, Tensor]], Converted] | None
    discriminators: Mapping[str, Callable[[Any, int], nn.Module]] = field(default_factory=dict)
    protocol: ReferenceProtocol | None = None
