"""How the authors' script tests weights of a system, where that is more than the windows of the recipe `reference`.

`anymri.evaluation.protocols` makes a test of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Names of protocols: the same for all systems, and that of the authors of a system.
PROTOCOLS = ANYMRI, REFERENCE = "anymri", "reference"
# What is segmented and compared: the whole scan; the box that preprocessing crops to; or one window of it, at random.
Compared = Literal["scan", "box", "random window"]


@dataclass(frozen=True)
class ReferenceProtocol:
    """Test of the authors of a system; overlap and blending of its windows are those of the recipe `reference`.

    compared     voxels that are segmented and compared with the label map
    metrics      names of the metrics that they report, see `anymri.evaluation.metrics`
    source       where this is described
    differences  what their script does otherwise, as sentences
    """

    compared: Compared
    metrics: tuple[str, ...]
    source: str
    differences: tuple[str, ...] = ()


def smoothed_dice(amount: str) -> str:
    """Return the sentence on a Dice whose numerator and denominator the authors increase by a small amount."""
    return f"The authors add {amount} to both sides of the fraction of Dice, which changes no value by more."


# The scripts of IM-Fuse's repository that read its cropped volumes.
IM_FUSE_FAMILY = ReferenceProtocol(
    compared="box",
    metrics=("dice", "dice_et500"),
    source="protocol sheet, sections 7 and 8",
    differences=(smoothed_dice("1e-8"),),
)
