"""Chains of random changes in nnU-Net's manner: space first, then intensities as scanners differ.

As the authors' chains, but linear where theirs are cubic. Sources: sheet mam, Data and
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

# The share of patches that each change of space meets.
MOVED = 0.2


def distort_nnunet(images: Tensor, classes: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Of images (M, X, Y, Z) and classes (X, Y, Z); as MaM. What is zero in all images stays so."""
    masks = torch.stack([classes, images.any(0).to(classes.dtype)])
    images, (classes, inside) = _move(images, masks, rng, degrees=30, zoom=(0.7, 1.4))
    images = _sharpness_and_contrast(images, rng)
    images = _each(images, rng, 0.1, lambda channel, rng: -_gamma(-channel, rng))
    images = _each(images, rng, 0.3, _gamma)
    return images * inside, classes


def distort_shaspec(images: Tensor, classes: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Of images (M, X, Y, Z) and classes (X, Y, Z); as ShaSpec."""
    images, (classes,) = _move(images, classes[None], rng, degrees=15, zoom=(0.85, 1.25), elastic=True)
    images = _sharpness_and_contrast(images, rng, shifted=True)
    return _each(images, rng, 0.15, _gamma), classes


def _move(
    images: Tensor, masks: Tensor, rng: Generator, degrees: float, zoom: tuple[float, float], elastic: bool = False
) -> tuple[Tensor, Tensor]:
    """Images (M, X, Y, Z) and masks (n, X, Y, Z) bent, turned and zoomed, by one resampling; 0 comes in from outside.

    degrees  largest angle about each axis
    zoom     bounds of how much farther apart voxels are read, below 1 and above
    """
    bent, turned, zoomed = rng.random(3) < MOVED
    if not (turned or zoomed or (bent and elastic)):
        return images, masks
    sides = images.shape[1:]
    axes = [torch.arange(side) - (side - 1) / 2 for side in sides]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    if bent and elastic:
        places += _elastic_field(sides, rng)
    if turned:
        angles = rng.uniform(-degrees, degrees, 3)
        places = places @ torch.from_numpy(Rotation.from_euler("xyz", angles, degrees=True).as_matrix()).float()
    if zoomed:
        places *= _below_or_above_one(rng, *zoom)
    # grid_sample counts from -1 to 1, and the last axis first.
    grid = (places / torch.tensor([(side - 1) / 2 for side in sides])).flip(-1)[None]
    moved = grid_sample(images[None], grid, "bilinear", align_corners=True)[0]
    nearest = grid_sample(masks[None].float(), grid, "nearest", align_corners=True)[0]
    return moved, nearest.to(masks.dtype)


def _elastic_field(sides: torch.Size, rng: Generator) -> Tensor:
    """Displacements in voxels, (X, Y, Z, 3): smoothed noise."""
    strength, width = rng.uniform(0, 900), rng.uniform(9, 13)
    noise = rng.uniform(-1, 1, (*sides, 3)).astype(np.float32)
    return torch.from_numpy(gaussian_filter(noise, width, mode="constant", axes=(0, 1, 2)) * np.float32(strength))


def _sharpness_and_contrast(images: Tensor, rng: Generator, shifted: bool = False) -> Tensor:
    """Noise, blur, brightness, contrast and low resolution, each in a share of patches."""
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
    """In a share `prob` of patches, each channel changed on its own with the probability `share`."""
    if rng.random() >= prob:
        return images
    return torch.stack([change(channel, rng) if rng.random() < share else channel for channel in images])


def _below_or_above_one(rng: Generator, low: float, high: float) -> float:
    """Between `low` and 1 or between 1 and `high`, each equally likely."""
    return float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))


def _blur(channel: Tensor, rng: Generator) -> Tensor:
    return torch.from_numpy(gaussian_filter(channel.numpy(), rng.uniform(0.5, 1)))


def _contrast(channel: Tensor, rng: Generator) -> Tensor:
    mean = channel.mean()
    return ((channel - mean) * rng.uniform(0.75, 1.25) + mean).clamp(channel.min(), channel.max())


def _coarsen(channel: Tensor, rng: Generator) -> Tensor:
    zoom = rng.uniform(0.5, 1)
    sides = [max(1, round(side * zoom)) for side in channel.shape]
    coarse = interpolate(channel[None, None], sides, mode="nearest-exact")
    return interpolate(coarse, channel.shape, mode="trilinear")[0, 0]


def _gamma(channel: Tensor, rng: Generator) -> Tensor:
    """Raised to a power between its extremes; mean and standard deviation stay."""
    low, deviation = channel.min(), channel.std()
    span = channel.max() - low
    curved = ((channel - low) / (span + 1e-7)) ** _below_or_above_one(rng, 0.7, 1.5) * span
    return (curved - curved.mean()) / (curved.std() + 1e-8) * deviation + channel.mean()
