"""Input of the networks: the one carrier of images from preprocessing to the batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from anymri.modalities import MODALITIES, Subset

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[slice, slice, slice]
V = TypeVar("V", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A preprocessed case, or a patch of one, in LPS orientation.

    images      (4, X, Y, Z) float32 in the units of the network, in the order of `MODALITIES`; zero where missing
    present     (4,) bool: modalities that exist
    background  (4,) float32: values around the images, zero where missing
    classes     (X, Y, Z) uint8 classes of `anymri.regions`; None without a label map
    box         position of the images in the grid of the scans
    grid        shape of that grid, in voxels
    coarsening  voxels of the scans along each axis that are one voxel of the images and classes
    """

    images: Tensor
    present: Tensor
    background: Tensor
    classes: Tensor | None
    box: Box
    grid: tuple[int, int, int]
    coarsening: int = 1

    @property
    def subset(self) -> Subset:
        """The modalities that exist."""
        return Subset.from_flags(self.present.tolist())

    @property
    def origin(self) -> tuple[int, int, int]:
        """Position of the first voxel, in voxels of the images from the middle of the grid (voxel n // 2 of n)."""
        x, y, z = ((axis.start - n // 2) // self.coarsening for axis, n in zip(self.box, self.grid, strict=True))
        return x, y, z

    @property
    def scans(self) -> dict[str, NDArray[np.float32]]:
        """Modality -> image on the voxels of the box, for the modalities that exist."""
        images = dict(zip(MODALITIES, self.refined(self.images), strict=True))
        return {modality: images[modality].numpy() for modality in self.subset}

    def refined(self, values: Tensor) -> Tensor:
        """Return values on the voxels of the images, (C, X, Y, Z), interpolated linearly to the voxels of the box."""
        if self.coarsening == 1:
            return values
        from torch.nn.functional import interpolate  # processes that prepare scans read this module without it

        return interpolate(values[None], scale_factor=self.coarsening, mode="trilinear", align_corners=False)[0]

    def only(self, subset: Subset) -> Prepared:
        """Return the same box with the modalities of `subset` alone, so that the others are not encoded."""
        return replace(self, present=self.present & subset.as_tensor()[0])

    def paste(self, values: NDArray[V]) -> NDArray[V]:
        """Return values of the box, (..., X, Y, Z), on the whole grid of the scans, zero outside the box."""
        whole = np.zeros((*values.shape[:-3], *self.grid), dtype=values.dtype)
        whole[(..., *self.box)] = values
        return whole


def whole_box(shape: tuple[int, ...]) -> Box:
    """Return the box of a whole volume (X, Y, Z)."""
    x, y, z = (slice(0, side) for side in shape)
    return x, y, z
