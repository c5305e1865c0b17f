"""Measure Dice and HD95 on label maps of 240x240x155 against medpy and MONAI: python benchmarks/metrics.py

Regions: WT, TC and ET; one core. Writes a table in Markdown to standard output: milliseconds of anymri, and how many
times as long the libraries take; values that differ from those of anymri's metric of the same convention are an error.
The cells of a library that is not installed are empty (medpy: extra `bench`). Goals: under 250 ms per pair of maps, at
least 20 times faster than medpy.
"""

import importlib.util
import warnings

import numpy as np
import torch

from anymri.evaluation.metrics import METRICS
from anymri.evaluation.metrics.comparison import Comparison
from anymri.regions import ED, ET, NCR, REGIONS
from anymri.synthesis.phantoms import phantom
from measure import median_ms

GRID = (240, 240, 155)
SIDE = 155  # a brain of about the size of those in BraTS
NAMES = ("WT", "TC", "ET")


def on_grid(labels):
    """Return labels on the grid of BraTS, with a cube of `SIDE` in its middle."""
    x, y = ((n - SIDE) // 2 for n in GRID[:2])
    whole = np.zeros(GRID, np.uint8)
    whole[x : x + SIDE, y : y + SIDE] = labels
    return whole


def ball(centre, radius):
    index = np.ogrid[tuple(slice(n) for n in GRID)]
    return sum((i - c) ** 2 for i, c in zip(index, centre, strict=True)) <= radius**2


def with_errors(truth):
    """Return a prediction shifted by a few voxels, with a thinner enhancing rim and distant false positives."""
    predicted = np.roll(truth, (3, -2, 2), (0, 1, 2))
    predicted[(predicted == ET) & (np.roll(truth, (-2, 2, 0), (0, 1, 2)) != ET)] = NCR
    for centre, radius, tissue in (((70, 75, 40), 4, ED), ((165, 90, 110), 6, ED), ((90, 165, 95), 3, ET)):
        predicted[ball(centre, radius) & (predicted == 0)] = tissue
    return predicted


def nearly_perfect(truth):
    """Return a prediction shifted by one voxel."""
    return np.roll(truth, 1, 0)


def ours(prediction, truth, metrics):
    comparison = Comparison(prediction, truth)
    return [METRICS[name].of(comparison, region) for region in NAMES for name in metrics]


def masks(labels):
    return np.stack([np.isin(labels, list(REGIONS[region])) for region in NAMES])


def by_medpy(prediction, truth):
    from medpy.metric.binary import dc, hd95

    pairs = zip(masks(prediction), masks(truth), strict=True)
    return [compute(*pair) for pair in pairs for compute in (dc, hd95)]


def by_monai(prediction, truth):
    from monai.metrics import compute_dice, compute_hausdorff_distance

    pair = [torch.from_numpy(masks(labels))[None] for labels in (prediction, truth)]
    values = compute_dice(*pair), compute_hausdorff_distance(*pair, include_background=True, percentile=95)
    return torch.cat(values).T.flatten().tolist()


# Name of the package -> (its way, our metrics of the same conventions).
LIBRARIES = {"medpy": (by_medpy, ("dice", "hd95")), "monai": (by_monai, ("dice", "hd95_directed"))}


def measured(prediction, truth):
    """Return the cells of one pair of maps: our milliseconds, and how many times as long each library takes."""
    times = []
    reference = median_ms(lambda: ours(prediction, truth, ("dice", "hd95")), 15)
    for package, (library, metrics) in LIBRARIES.items():
        if not importlib.util.find_spec(package):
            times.append("")
            continue
        np.testing.assert_allclose(library(prediction, truth), ours(prediction, truth, metrics), atol=1e-5)
        plain = median_ms(lambda library=library: library(prediction, truth), 3)
        times.append(f"{plain / reference:.0f}")
    return [f"{reference:.0f}", *times]


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    truth = on_grid(phantom(3, SIDE).labels)  # 98 mL, more than most tumours
    print("| prediction | anymri, ms | medpy, times | MONAI, times |\n|---|--:|--:|--:|")
    for what, change in (("shifted by a voxel", nearly_perfect), ("with errors", with_errors)):
        print(f"| {what} |", " | ".join(measured(change(truth), truth)), "|", flush=True)
