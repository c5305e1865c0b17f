"""Combination of several predictions of one case: mean probability, or STAPLE of the label maps."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anymri.inference.uncertainty import region_probabilities
from anymri.regions import RC, OutputKind, region_mask, to_label_map

# Voxels around all masks that STAPLE takes into account: its prior is the share of tumour in what it gets.
_MARGIN = 5
# Expectation-maximisation has converged long before on masks of networks.
_ITERATIONS = 100

Probabilities = NDArray[np.float32]


def mean(predictions: Sequence[Probabilities], kinds: Sequence[OutputKind]) -> tuple[Probabilities, OutputKind]:
    """Return the mean of predictions and its kind: classes if all are classes, otherwise regions.

    predictions  (K, X, Y, Z) in 0..1 each, see `anymri.systems.contract.Prediction`
    """
    if len(set(kinds)) == 1:
        return _mean(predictions), kinds[0]
    return _mean([as_regions(each, kind) for each, kind in zip(predictions, kinds, strict=True)]), "regions"


def _mean(predictions: Sequence[Probabilities]) -> Probabilities:
    total = np.zeros_like(predictions[0])
    for each in predictions:
        total += each
    total /= len(predictions)
    return total


def as_regions(probabilities: Probabilities, kind: OutputKind) -> Probabilities:
    """Return the probabilities of WT, TC, ET and, if the network has it, RC: (3 or 4, X, Y, Z)."""
    nested = region_probabilities(probabilities, kind)
    cavity = RC if kind == "classes" else 3
    return np.concatenate([nested, probabilities[cavity:]]) if len(probabilities) > cavity else nested


def staple(predictions: Sequence[Probabilities], kinds: Sequence[OutputKind]) -> Probabilities:
    """Return the probabilities of the regions by STAPLE, (3 or 4, X, Y, Z), from the label map of each prediction.

    STAPLE (Warfield et al., 2004) estimates the sensitivity and specificity of each member together with the region
    that they show. It gets the box around all masks of a region and 5 voxels beyond, because its prior is the share
    of the region in it.
    """
    maps = [to_label_map(torch.from_numpy(each), kind).numpy() for each, kind in zip(predictions, kinds, strict=True)]
    has_cavity = len(predictions[0]) > (RC if kinds[0] == "classes" else 3)
    names = ("WT", "TC", "ET", "RC") if has_cavity else ("WT", "TC", "ET")
    return np.stack([_staple([region_mask(each, name) for each in maps]) for name in names])


def _staple(masks: Sequence[NDArray[np.bool_]]) -> Probabilities:
    """Return the probability of one region, (X, Y, Z)."""
    every = np.logical_or.reduce(masks)
    found: Probabilities = every.astype(np.float32)
    if all(np.array_equal(mask, every) for mask in masks):  # also if none of them has a voxel
        return found
    where = np.nonzero(every)
    box = tuple(slice(max(int(axis.min()) - _MARGIN, 0), int(axis.max()) + _MARGIN + 1) for axis in where)
    sitk: Any = import_module("SimpleITK")
    estimate = sitk.STAPLEImageFilter()
    estimate.SetForegroundValue(1)
    estimate.SetMaximumIterations(_ITERATIONS)
    images = [sitk.GetImageFromArray(mask[box].astype(np.uint8)) for mask in masks]
    found[box] = sitk.GetArrayFromImage(estimate.Execute(images))
    return found
