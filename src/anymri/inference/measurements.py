"""Measurements of a segmentation: volumes, lesions, axial diameters, side, and how much of it is uncertain.

All functions take arrays in any orientation with their affine, (4, 4) from voxel indices to RAS+ millimetres.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.inference.diameters import Ends, axial_axis
from anymri.inference.lesions import Box, Lesion, box_of, find_lesions, shifted, side_of
from anymri.regions import CLASSES, RC, region_mask

Mask = NDArray[np.bool_]
Affine = NDArray[np.float64]

REGIONS = ("WT", "TC", "ET")
# Regions whose connected components are listed as lesions.
LESION_REGIONS = ("WT", "ET")
# Volumes are also given where the probability exceeds these. The range depends on the calibration of the network: it is
# not a confidence interval.
THRESHOLDS = (0.25, 0.75)
# RANO adds the products of at most this many lesions, the largest ones.
MOST_TARGETS = 5


@dataclass(frozen=True)
class RegionMeasurements:
    """Measurements of one of the regions WT, TC and ET.

    volume_ml      volume in the label map, millilitres
    volumes_at_ml  threshold of `THRESHOLDS` -> volume where the probability exceeds it; empty without probabilities
    uncertain      share of the region's voxels whose probability is at most the upper threshold; None without
                   probabilities or for an empty region
    side           `left`, `right`, `both` or `midline`, see `anymri.inference.lesions.side_of`; None for an empty
                   region, or without a middle plane
    lesions        components above `SMALLEST_LESION_ML`, largest first; None for a region outside `LESION_REGIONS`
    small_ml       volumes of the other components
    """

    volume_ml: float
    volumes_at_ml: Mapping[float, float]
    uncertain: float | None
    side: str | None
    lesions: tuple[Lesion, ...] | None = None
    small_ml: tuple[float, ...] = ()

    @property
    def sum_of_products_mm2(self) -> float:
        """Sum of the products of both diameters over the measurable lesions, at most the `MOST_TARGETS` largest."""
        products = [each.diameters.product_mm2 for each in self.lesions or () if each.measurable]
        return sum(sorted(products, reverse=True)[:MOST_TARGETS])

    def as_json(self) -> dict[str, Any]:
        """Return the measurements as plain values; keys that do not apply are missing."""
        values: dict[str, Any] = {"volume_ml": round(self.volume_ml, 4)}
        values |= {f"volume_ml_at_{threshold:g}": round(ml, 4) for threshold, ml in self.volumes_at_ml.items()}
        if self.uncertain is not None:
            values["uncertain_share"] = round(self.uncertain, 4)
        values["side"] = self.side
        if self.lesions is not None:
            values["sum_of_products_mm2"] = round(self.sum_of_products_mm2, 1)
            values["lesions"] = [each.as_json() for each in self.lesions]
            values |= {"small_lesions": len(self.small_ml), "small_lesions_ml": round(sum(self.small_ml), 4)}
        return values


@dataclass(frozen=True)
class Measurements:
    """Measurements of one segmentation.

    regions          WT, TC and ET -> measurements
    classes_ml       class of `anymri.regions.CLASSES` -> volume in millilitres, for the classes of the network
    voxel_volume_ml  volume of one voxel in millilitres
    middle_mm        position of the plane between left and right, RAS+ x in millimetres; None if it is unknown
    """

    regions: Mapping[str, RegionMeasurements]
    classes_ml: Mapping[str, float]
    voxel_volume_ml: float
    middle_mm: float | None

    @property
    def largest_diameters_mm(self) -> list[Ends]:
        """Ends of both diameters of the enhancing lesion with the largest product, RAS+ mm; none without a lesion."""
        lesions = self.regions["ET"].lesions
        if not lesions:
            return []
        largest = max((lesion.diameters for lesion in lesions), key=lambda diameters: diameters.product_mm2)
        return [largest.longest_ends_mm, largest.perpendicular_ends_mm]

    def as_json(self) -> dict[str, Any]:
        """Return the measurements as plain values: volumes in mL, lengths in mm, positions in RAS+ mm."""
        return {
            "voxel_volume_ml": self.voxel_volume_ml,
            "middle_x_mm": None if self.middle_mm is None else round(self.middle_mm, 1),
            "regions": {name: region.as_json() for name, region in self.regions.items()},
            "classes": {name: {"volume_ml": round(ml, 4)} for name, ml in self.classes_ml.items()},
        }


def measure(
    classes: NDArray[np.uint8],
    affine: Affine,
    probabilities: NDArray[np.floating[Any]] | None = None,
    middle_mm: float | None = None,
    num_classes: int = 4,
) -> Measurements:
    """Return all measurements of a label map.

    classes        (X, Y, Z) uint8 classes of `anymri.regions.CLASSES`
    probabilities  (3, X, Y, Z) in 0..1 for WT, TC and ET
    middle_mm      position of the plane between left and right, see `anymri.inference.lesions.middle_of`
    num_classes    classes of the network, background included
    """
    box = box_of(classes != 0)
    at, first_slice, inner = shifted(affine, box), box[axial_axis(affine)].start, classes[box]
    masks = {region: region_mask(inner, region) for region in REGIONS}
    regions = {region: _measure_region(mask, at, middle_mm) for region, mask in masks.items()}
    # Lines across the enhancing tumour may cross its necrotic core, but never a resection cavity.
    for region, around in (("WT", masks["WT"]), ("ET", masks["TC"])):
        crossed = filled(around, at) & (inner != RC)
        lesions, small_ml = find_lesions(masks[region], at, crossed, middle_mm, first_slice)
        regions[region] = replace(regions[region], lesions=tuple(lesions), small_ml=tuple(small_ml))
    if probabilities is not None:
        for region, probability in zip(REGIONS, probabilities, strict=True):
            regions[region] = _with_probability(regions[region], probability, masks[region], box, _voxel_ml(affine))
    classes_ml = {CLASSES[value]: float((inner == value).sum()) * _voxel_ml(affine) for value in range(1, num_classes)}
    return Measurements(regions, classes_ml, _voxel_ml(affine), middle_mm)


def _measure_region(mask: Mask, affine: Affine, middle_mm: float | None) -> RegionMeasurements:
    side = None if middle_mm is None else side_of(mask, affine, middle_mm)
    return RegionMeasurements(float(mask.sum()) * _voxel_ml(affine), {}, None, side)


def _with_probability(
    measured: RegionMeasurements, probability: NDArray[np.floating[Any]], mask: Mask, box: Box, voxel_ml: float
) -> RegionMeasurements:
    """Return measurements with those of a probability, (X, Y, Z) on the whole grid; `mask` is the region in `box`."""
    at = {threshold: float((probability > threshold).sum()) * voxel_ml for threshold in THRESHOLDS}
    uncertain = float((probability[box][mask] <= THRESHOLDS[1]).mean()) if mask.any() else None
    return replace(measured, volumes_at_ml=at, uncertain=uncertain)


def filled(mask: Mask, affine: Affine) -> Mask:
    """Return a mask (X, Y, Z) with the holes of each axial slice filled."""
    from scipy.ndimage import label

    # Voxels outside that share a face in the slice; the border of each slice belongs to one component of them.
    slices = np.moveaxis(mask, axial_axis(affine), 0)
    outside = np.pad(~slices, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    faces = np.zeros((3, 3, 3), dtype=bool)
    faces[1] = [[False, True, False], [True, True, True], [False, True, False]]
    numbers, _ = label(outside, faces)
    inside: Mask = (numbers != numbers[:, :1, :1])[:, 1:-1, 1:-1]
    return np.moveaxis(inside, 0, axial_axis(affine))


def intensity_statistics(
    classes: NDArray[np.uint8], scan: NDArray[np.float32], affine: Affine
) -> dict[str, dict[str, float]]:
    """Return the statistics that TotalSegmentator writes, with its keys.

    scan     (X, Y, Z) intensities on the grid of the label map
    returns  region or class that the label map has -> `volume` in cubic millimetres, and mean `intensity` of the scan
    """
    box = box_of(classes != 0)
    classes, scan = classes[box], scan[box]
    masks = {region: region_mask(classes, region) for region in REGIONS}
    masks |= {CLASSES[value]: classes == value for value in range(1, len(CLASSES))}
    return {
        name: {
            "volume": round(float(mask.sum()) * _voxel_ml(affine) * 1000, 2),
            "intensity": round(float(scan[mask].mean(dtype=np.float64)), 2),
        }
        for name, mask in masks.items()
        if mask.any()
    }


def as_table(measured: Mapping[str, Any]) -> str:
    """Return the text of measurements.csv: one row per value, with the columns case, structure, lesion, name, value.

    measured  content of measurements.json. `structure` is a region or class, `lesion` the number of a lesion from 1,
              empty for values of the whole structure; a value that does not exist is empty
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("case", "structure", "lesion", "name", "value"))
    structures = [*measured["regions"].items(), *((n, v) for n, v in measured["classes"].items() if n not in REGIONS)]
    for structure, values in structures:
        plain = {name: value for name, value in values.items() if name != "lesions"}
        rows: list[tuple[Any, ...]] = [("", name, value) for name, value in plain.items()]
        for number, lesion in enumerate(values.get("lesions", ()), start=1):
            rows += [(number, name, value) for name, value in lesion.items() if not isinstance(value, list)]
            for axis, value in zip("xyz", lesion["centre_ras_mm"], strict=True):
                rows.append((number, f"centre_{axis}_mm", value))
        writer.writerows((measured["case"], structure, *row) for row in rows)
    return stream.getvalue()


def _voxel_ml(affine: Affine) -> float:
    return float(abs(np.linalg.det(affine[:3, :3]))) / 1000
