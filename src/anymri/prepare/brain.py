"""Brain masks of single scans, with or without the head around the brain, and their vote."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.image import Image
from anymri.errors import ConfigurationError, ImageError, InputWarning
from anymri.prepare import brain_tools
from anymri.prepare.rough_brain import largest, rough_brain

METHODS = ("auto", "background", "deepbet", "hd-bet", "fallback")
# Brains with their fluid have 1000 to 1800 mL in adults, heads without neck more than 3000.
LARGEST_BRAIN_ML = 2200.0
PLAUSIBLE_ML = (700.0, 2000.0)


@dataclass(frozen=True, eq=False)
class BrainMask:
    """A mask of the brain on the grid of one scan.

    mask       (x, y, z) bool in the orientation of the scan's file
    method     "given", "background", "deepbet", "hd-bet" or "fallback"
    volume_ml  volume of the mask in millilitres
    """

    mask: NDArray[np.bool_]
    method: str
    volume_ml: float

    @classmethod
    def of(cls, image: Image, mask: NDArray[np.bool_], method: str) -> BrainMask:
        """Return a mask on the grid of a scan with its volume."""
        return cls(mask, method, float(np.count_nonzero(mask)) * image.voxel_volume_ml)


def has_skull(image: Image) -> bool:
    """Return whether a scan has the head around the brain.

    Skull-stripped scans have a constant background, and what differs from it is not larger than a brain. Around heads
    there is noise, or a constant where a program has removed it.
    """
    brain = _foreground(image)
    return brain is None or np.count_nonzero(brain) * image.voxel_volume_ml > LARGEST_BRAIN_ML


def find_brain(image: Image, method: str = "auto") -> BrainMask:
    """Return the brain mask of a scan.

    method  "background": the voxels that differ from the constant background, for skull-stripped scans;
            "deepbet" (extra `brain`) or "hd-bet" (extra `brain-hdbet`): networks; "fallback": thresholds and distances,
            rough; "auto": the first of these that suits the scan and is installed

    An `InputWarning` is given for the fallback and for a volume that is unusual for a brain. Raises `ImageError` if no
    brain is found, `MissingExtraError` if the chosen tool is not installed.
    """
    if method not in METHODS:
        raise ConfigurationError(f"{method} is not a method for brain masks.", f"Use one of {', '.join(METHODS)}.")
    chosen = _suitable(image) if method == "auto" else method
    found = BrainMask.of(image, _run(image, chosen), chosen)
    if not found.mask.any():
        raise ImageError(
            f"No brain is found in {image.path} ({chosen}).",
            "Check that it is a scan of a head, or give a brain mask with --brain-mask.",
        )
    low, high = PLAUSIBLE_ML
    if chosen != "background" and not low <= found.volume_ml <= high:
        warnings.warn(
            f"The brain mask of {image.path} ({chosen}) has {found.volume_ml:.0f} mL; brains have {low:.0f} to "
            f"{high:.0f} mL. Check the mask, or give one with --brain-mask.",
            InputWarning,
            stacklevel=2,
        )
    return found


def vote(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return the voxels that at least half of the masks contain, (X, Y, Z) bool, without holes and loose parts.

    masks  one or more masks on one grid
    """
    together = 2 * np.sum(masks, axis=0, dtype=np.int16) >= len(masks)
    voted: NDArray[np.bool_] = ndimage.binary_fill_holes(largest(together))
    return voted


def _suitable(image: Image) -> str:
    """Return the method of "auto"."""
    if not has_skull(image):
        return "background"
    tools = brain_tools.installed()
    return tools[0] if tools else "fallback"


def _run(image: Image, method: str) -> NDArray[np.bool_]:
    if method == "deepbet":
        return brain_tools.deepbet(image)
    if method == "hd-bet":
        return brain_tools.hd_bet(image)
    if method == "background":
        brain = _foreground(image)
        if brain is None:
            raise ImageError(
                f"{image.path} has no constant background, so that it does not give a brain mask.",
                "Use another method with --brain.",
            )
        return brain
    warnings.warn(
        f"The brain mask of {image.path} is rough: it may lose cortex or keep parts of skull and eyes. "
        "For a better one: pip install 'anymri[brain]'",
        InputWarning,
        stacklevel=3,
    )
    return rough_brain(image)


def _foreground(image: Image) -> NDArray[np.bool_] | None:
    """Return the largest object in front of the constant background, without holes; None without such a background."""
    from anymri.data.preprocessing import background_value

    value = background_value(image.array)
    if value is None:
        return None
    brain: NDArray[np.bool_] = ndimage.binary_fill_holes(largest(image.array != value))
    return brain
