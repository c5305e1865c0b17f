"""Brain masks of single scans, with or without the head around the brain, and their vote."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.image import Image
from anymri.data.preprocessing import background_value
from anymri.errors import ConfigurationError, ImageError, InputWarning
from anymri.extras import install_line
from anymri.prepare import brain_tools
from anymri.prepare.rough_brain import largest, rough_brain
from anymri.prepare.smeared_edge import without_smeared_edge

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
    return brain is None or _is_head(brain, image)


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
    chosen, mask = _chosen(image) if method == "auto" else (method, _run(image, method))
    found = BrainMask.of(image, mask, chosen)
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
    together = np.asarray(2 * np.sum(masks, axis=0, dtype=np.int16) >= len(masks))
    voted: NDArray[np.bool_] = ndimage.binary_fill_holes(largest(together))
    return voted


def _background(image: Image) -> NDArray[np.bool_]:
    brain = _foreground(image)
    if brain is None:
        raise ImageError(
            f"{image.path} has no constant background, so that it does not give a brain mask.",
            "Use another method with --brain.",
        )
    return _sharpened(brain, image)


def _fallback(image: Image) -> NDArray[np.bool_]:
    brain = rough_brain(image)
    warnings.warn(
        f"The brain mask of {image.path} is rough: it may lose cortex or keep parts of skull and eyes. "
        f"For a better one: {install_line('brain')}",
        InputWarning,
        stacklevel=4,
    )
    return brain


def _chosen(image: Image) -> tuple[str, NDArray[np.bool_]]:
    """Return the method of "auto" and its mask."""
    brain = _foreground(image)
    if brain is not None and not _is_head(brain, image):
        return "background", _sharpened(brain, image)
    tools = brain_tools.installed()
    method = tools[0] if tools else "fallback"
    return method, _run(image, method)


def _run(image: Image, method: str) -> NDArray[np.bool_]:
    run = {"background": _background, "deepbet": brain_tools.deepbet, "hd-bet": brain_tools.hd_bet}
    return run.get(method, _fallback)(image)


def _is_head(object_: NDArray[np.bool_], image: Image) -> bool:
    return bool(np.count_nonzero(object_) * image.voxel_volume_ml > LARGEST_BRAIN_ML)


def _sharpened(brain: NDArray[np.bool_], image: Image) -> NDArray[np.bool_]:
    """Return what differs from the background without an edge that interpolation has smeared."""
    value = background_value(image.array)
    if value is None or not brain.any():
        return brain
    box = ndimage.find_objects(brain.view(np.uint8), max_label=1)[0]
    sharpened = np.zeros_like(brain)
    sharpened[box] = without_smeared_edge(brain[box], np.abs(image.array[box] - np.float32(value)))
    return sharpened


def _foreground(image: Image) -> NDArray[np.bool_] | None:
    """Return the largest object in front of the constant background, without holes; None without such a background."""
    value = background_value(image.array)
    if value is None:
        return None
    different: NDArray[np.bool_] = image.array != value
    if not different.any():
        return different
    found = ndimage.find_objects(different.view(np.uint8), max_label=1)[0]
    # Filled first: a scalp in front of an empty skull encloses the brain.
    different[found] = largest(ndimage.binary_fill_holes(different[found]))
    return different
