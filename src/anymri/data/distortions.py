"""Augmentation as in nnU-Net: spatial transforms first, then intensities.

The chains are those of the authors. Sources: sheet mam, Data and training; sheet shaspec, section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import interpolate

from anymri.regions import ED, ET, NCR, RC, REGIONS

# Order of the splines that interpolate images.
Order = Literal[1, 3]
# Probability of each spatial transform.
MOVED = 0.2
# Label of nnU-Net of voxels that are empty in all images.
_EMPTY = 255
# Labels are resampled as these unions of classes, each of which overwrites those before it.
_BY_CLASS = {tissue: {tissue} for tissue in (NCR, ED, ET, RC, _EMPTY)}
_BY_REGION = {RC: REGIONS["RC"], ED: REGIONS["WT"], NCR: REGIONS["TC"], ET: REGIONS["ET"]}


def distort_nnunet(
    images: Tensor, classes: Tensor, rng: Generator, sides: Sequence[int] | None = None, order: Order = 1
) -> tuple[Tensor, Tensor]:
    """Return images (M, X, Y, Z) and classes (X, Y, Z) distorted as in MaM; voxels zero in all images stay zero.

    sides  sides of what is returned, cut from the middle; by default those of `images`
    order  order of the splines that interpolate images: 3 is the authors', and takes four times as long as 1
    """
    labels = torch.where((classes > 0) | images.any(0), classes, _EMPTY)
    images, labels = _move(images, labels, rng, _BY_CLASS, 30, (0.7, 1.4), sides, order)
    images = _sharpness_and_contrast(images, rng, order)
    images = _each(images, rng, 0.1, lambda channel, rng: -_gamma(-channel, rng))
    images = _each(images, rng, 0.3, _gamma)
    return images * (labels != _EMPTY), labels * (labels != _EMPTY)


def distort_shaspec(
    images: Tensor, classes: Tensor, rng: Generator, sides: Sequence[int] | None = None, order: Order = 1
) -> tuple[Tensor, Tensor]:
    """Return images (M, X, Y, Z) and classes (X, Y, Z) distorted as in ShaSpec; `sides` and `order` as above."""
    images, classes = _move(images, classes, rng, _BY_REGION, 15, (0.85, 1.25), sides, order, elastic=True)
    images = _sharpness_and_contrast(images, rng, order, shifted=True)
    return _each(images, rng, 0.15, _gamma), classes


def resized(images: Tensor, classes: Tensor, sides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return images (M, X, Y, Z) and classes (X, Y, Z) resized to `sides`: linear, and nearest neighbour."""
    if classes.shape == tuple(sides):
        return images, classes
    nearest = interpolate(classes[None, None].float(), list(sides), mode="nearest-exact")[0, 0]
    return interpolate(images[None], list(sides), mode="trilinear")[0], nearest.to(classes.dtype)


def middle(values: Tensor, sides: Sequence[int]) -> Tensor:
    """Return the middle (..., *sides) of values (..., X, Y, Z)."""
    for axis, side in zip((-3, -2, -1), sides, strict=True):
        values = values.narrow(axis, (values.shape[axis] - side) // 2, side)
    return values


def _move(
    images: Tensor,
    labels: Tensor,
    rng: Generator,
    unions: Mapping[int, Collection[int]],
    degrees: float,
    factors: tuple[float, float],
    sides: Sequence[int] | None,
    order: Order,
    elastic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return images (M, X, Y, Z) and labels (X, Y, Z) deformed, rotated and zoomed by one resampling.

    Images are interpolated by splines, with 0 from outside. A label is where its union of labels fills at least
    half of a voxel, by linear interpolation; `_EMPTY`, where it is used, is outside.

    unions   label -> labels of which it is resampled
    degrees  largest angle about each axis
    factors  smallest and largest factor of the distances between the voxels that are read
    sides    sides of what is returned; by default those of `labels`
    order    order of the splines
    elastic  also deform
    """
    deformed, rotated, zoomed = rng.random(3) < MOVED
    sides = tuple(sides or labels.shape)
    if not (rotated or zoomed or (deformed and elastic)):
        return middle(images, sides), middle(labels, sides)
    axes = [np.arange(side, dtype=np.float32) - (side - 1) / 2 for side in sides]
    coordinates = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    if deformed and elastic:
        coordinates += _elastic_field(sides, rng)
    if rotated:
        angles = rng.uniform(-degrees, degrees, 3)
        coordinates = coordinates @ Rotation.from_euler("xyz", angles, degrees=True).as_matrix().astype(np.float32)
    if zoomed:
        coordinates *= np.float32(_below_or_above_one(rng, *factors))
    coordinates += (np.array(labels.shape, dtype=np.float32) - 1) / 2
    read = coordinates.transpose(3, 0, 1, 2)
    moved = np.stack([map_coordinates(channel, read, order=order) for channel in images.numpy()])
    return torch.from_numpy(moved), torch.from_numpy(_moved_labels(labels.numpy(), read, unions))


def _moved_labels(
    labels: NDArray[np.uint8], read: NDArray[np.float32], unions: Mapping[int, Collection[int]]
) -> NDArray[np.uint8]:
    found = set(np.unique(labels).tolist())
    moved = np.zeros(read.shape[1:], dtype=np.uint8)
    for label, union in unions.items():
        if found.intersection(union):
            inside = np.isin(labels, list(union)).astype(np.float32)
            moved[map_coordinates(inside, read, order=1, cval=float(label == _EMPTY)) >= 0.5] = label
    return moved


def _elastic_field(sides: Sequence[int], rng: Generator) -> NDArray[np.float32]:
    """Return displacements in voxels, (X, Y, Z, 3): smoothed noise."""
    strength, width = rng.uniform(0, 900), rng.uniform(9, 13)
    noise = rng.uniform(-1, 1, (*sides, 3)).astype(np.float32)
    field: NDArray[np.float32] = gaussian_filter(noise, width, mode="constant", axes=(0, 1, 2)) * np.float32(strength)
    return field


def _sharpness_and_contrast(images: Tensor, rng: Generator, order: Order, shifted: bool = False) -> Tensor:
    """Apply noise, blur, brightness, contrast and low resolution, also offsets if `shifted`."""
    if rng.random() < 0.1:
        noise = rng.standard_normal(images.shape, dtype=np.float32)
        images = images + torch.from_numpy(noise) * rng.uniform(0, 0.1)
    images = _each(images, rng, 0.2, _blur, share=0.5)
    images = _each(images, rng, 0.15, lambda channel, rng: channel * rng.uniform(0.75, 1.25))
    if shifted:
        images = _each(images, rng, 0.15, lambda channel, rng: channel + rng.normal(0, 0.1), share=0.5)
    images = _each(images, rng, 0.15, _contrast)
    return _each(images, rng, 0.25, partial(_coarsen, order=order), share=0.5)


def _each(
    images: Tensor, rng: Generator, prob: float, change: Callable[[Tensor, Generator], Tensor], share: float = 1.0
) -> Tensor:
    """Apply `change` to each channel with probability `share`, in a share `prob` of patches."""
    if rng.random() >= prob:
        return images
    return torch.stack([change(channel, rng) if rng.random() < share else channel for channel in images])


def _below_or_above_one(rng: Generator, low: float, high: float) -> float:
    """Draw a number between `low` and 1 or between 1 and `high`, each with probability 0.5."""
    return float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))


def _blur(channel: Tensor, rng: Generator) -> Tensor:
    """Smooth a channel by a Gaussian of 0.5 to 1 voxels."""
    return torch.from_numpy(gaussian_filter(channel.numpy(), rng.uniform(0.5, 1)))


def _contrast(channel: Tensor, rng: Generator) -> Tensor:
    """Scale a channel around its mean, within its extremes."""
    mean = channel.mean()
    return ((channel - mean) * rng.uniform(0.75, 1.25) + mean).clamp(channel.min(), channel.max())


def _coarsen(channel: Tensor, rng: Generator, order: Order) -> Tensor:
    """Resample a channel to half to all of its resolution, nearest neighbour, and back by splines."""
    factor = rng.uniform(0.5, 1)
    sides = [max(1, round(side * factor)) for side in channel.shape]
    coarse = interpolate(channel[None, None], sides, mode="nearest-exact")[0, 0].numpy()
    factors = [side / few for side, few in zip(channel.shape, sides, strict=True)]
    fine = zoom(coarse, factors, order=order, mode="nearest", grid_mode=True)
    return torch.from_numpy(fine.clip(coarse.min(), coarse.max()))


def _gamma(channel: Tensor, rng: Generator) -> Tensor:
    """Raise a channel, scaled to its extremes, to a random power; keep its mean and standard deviation."""
    low, deviation = channel.min(), channel.std()
    span = channel.max() - low
    curved = ((channel - low) / (span + 1e-7)) ** _below_or_above_one(rng, 0.7, 1.5) * span
    return (curved - curved.mean()) / (curved.std() + 1e-8) * deviation + channel.mean()
