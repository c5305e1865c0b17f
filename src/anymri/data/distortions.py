"""Augmentation as in nnU-Net: spatial transforms first, then intensities.

The chains are those of the authors, with linear interpolation where theirs is cubic. Sources: sheet mam, Data and
training; sheet shaspec, section 7.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

# Probability of each spatial transform.
MOVED = 0.2


def distort_nnunet(images: Tensor, classes: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Return images (M, X, Y, Z) and classes (X, Y, Z) distorted as in MaM; voxels zero in all images stay zero."""
    masks = torch.stack([classes, images.any(0).to(classes.dtype)])
    images, (classes, inside) = _move(images, masks, rng, degrees=30, zoom=(0.7, 1.4))
    images = _sharpness_and_contrast(images, rng)
    images = _each(images, rng, 0.1, lambda channel, rng: -_gamma(-channel, rng))
    images = _each(images, rng, 0.3, _gamma)
    return images * inside, classes


def distort_shaspec(images: Tensor, classes: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Return images (M, X, Y, Z) and classes (X, Y, Z) distorted as in ShaSpec."""
    images, (classes,) = _move(images, classes[None], rng, degrees=15, zoom=(0.85, 1.25), elastic=True)
    images = _sharpness_and_contrast(images, rng, shifted=True)
    return _each(images, rng, 0.15, _gamma), classes


def _move(
    images: Tensor, masks: Tensor, rng: Generator, degrees: float, zoom: tuple[float, float], elastic: bool = False
) -> tuple[Tensor, Tensor]:
    """Return images (M, X, Y, Z) and masks (n, X, Y, Z) deformed, rotated and zoomed by one resampling, 0 from outside.

    degrees  largest angle about each axis
    zoom     smallest and largest factor of the distances between the voxels that are read
    elastic  also deform
    """
    deformed, rotated, zoomed = rng.random(3) < MOVED
    if not (rotated or zoomed or (deformed and elastic)):
        return images, masks
    sides = images.shape[1:]
    axes = [torch.arange(side, device=images.device) - (side - 1) / 2 for side in sides]
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    if deformed and elastic:
        coordinates += _elastic_field(sides, rng)
    if rotated:
        angles = rng.uniform(-degrees, degrees, 3)
        coordinates = (
            coordinates @ torch.from_numpy(Rotation.from_euler("xyz", angles, degrees=True).as_matrix()).float()
        )
    if zoomed:
        coordinates *= _below_or_above_one(rng, *zoom)
    # Coordinates of grid_sample are from -1 to 1, with the last axis first.
    half = torch.tensor([(side - 1) / 2 for side in sides], device=images.device)
    grid = (coordinates / half).flip(-1)[None]
    moved = grid_sample(images[None], grid, "bilinear", align_corners=True)[0]
    nearest = grid_sample(masks[None].float(), grid, "nearest", align_corners=True)[0]
    return moved, nearest.to(masks.dtype)


def _elastic_field(sides: torch.Size, rng: Generator) -> Tensor:
    """Return displacements in voxels, (X, Y, Z, 3): smoothed noise."""
    strength, width = rng.uniform(0, 900), rng.uniform(9, 13)
    noise = rng.uniform(-1, 1, (*sides, 3)).astype(np.float32)
    return torch.from_numpy(gaussian_filter(noise, width, mode="constant", axes=(0, 1, 2)) * np.float32(strength))


def _sharpness_and_contrast(images: Tensor, rng: Generator, shifted: bool = False) -> Tensor:
    """Apply noise, blur, brightness, contrast and low resolution, also offsets if `shifted`."""
    if rng.random() < 0.1:
        noise = rng.standard_normal(images.shape, dtype=np.float32)
        images = images + torch.from_numpy(noise) * rng.uniform(0, 0.1)
    images = _each(images, rng, 0.2, _blur, share=0.5)
    images = _each(images, rng, 0.15, lambda channel, rng: channel * rng.uniform(0.75, 1.25))
    if shifted:
        images = _each(images, rng, 0.15, lambda channel, rng: channel + rng.normal(0, 0.1), share=0.5)
    images = _each(images, rng, 0.15, _contrast)
    return _each(images, rng, 0.25, _coarsen, share=0.5)


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


def _coarsen(channel: Tensor, rng: Generator) -> Tensor:
    """Resample a channel to half to all of its resolution and back."""
    zoom = rng.uniform(0.5, 1)
    sides = [max(1, round(side * zoom)) for side in channel.shape]
    coarse = interpolate(channel[None, None], sides, mode="nearest-exact")
    return interpolate(coarse, channel.shape, mode="trilinear")[0, 0]


def _gamma(channel: Tensor, rng: Generator) -> Tensor:
    """Raise a channel, scaled to its extremes, to a random power; keep its mean and standard deviation."""
    low, deviation = channel.min(), channel.std()
    span = channel.max() - low
    curved = ((channel - low) / (span + 1e-7)) ** _below_or_above_one(rng, 0.7, 1.5) * span
    return (curved - curved.mean()) / (curved.std() + 1e-8) * deviation + channel.mean()
