"""The segmentation of a case from one subset, with what the page shows about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.files import read_text, write_json
from anymri.inference.gains import expected_gains
from anymri.inference.measurements import THRESHOLDS
from anymri.inference.uncertainty import entropy, region_probabilities
from anymri.modalities import MODALITIES, SUBSETS, Subset
from anymri.progress import Progress
from anymri.regions import region_mask
from anymri.studio.maps import (
    REGIONS,
    box_of_both,
    changes,
    compared,
    dice,
    in_bytes,
    read_labels,
    volumes_ml,
    write_labels,
    write_scan,
    write_share,
)
from anymri.studio.process import AFTERWARDS
from anymri.studio.source import CaseSource
from anymri.text import count, listed

if TYPE_CHECKING:
    from anymri.inference.windows import VolumePrediction
    from anymri.prepare.preparation import Preparation
    from anymri.studio.desk import Desk
    from anymri.weights.card import WeightsCard

MASK = "mask.nii.gz"
_RECORD, _HEAT = "segmentation.json", "uncertainty.nii.gz"


def folder_of(source: CaseSource, weights: Path, subset: str) -> Path:
    """Return the folder for the maps of a subset, whose name has no part of a path."""
    name = hashlib.sha256(str(weights).encode()).hexdigest()[:16]
    return source.maps / name / subset


def segment(
    desk: Desk, source: CaseSource, preparation: Preparation, weights: Path, subset: str, progress: Progress
) -> dict[str, Any]:
    """Return the segmentation of a subset, and write its maps on the grid of the study; that of all scans first.

    Maps of probability and uncertainty are written afterwards, because few look at them at once.

    mask, change, probabilities, uncertainty    files of the maps
    reconstructed       `name`, `path`, `kind`, `window` of the missing scans, if the system reconstructs
    volumes_ml          region -> volume
    confidence          region -> share of its voxels with a probability above 0.75; None for an empty region
    compared_with_full  region -> `added_ml` and `lost_ml` against the segmentation of all scans
    dice                region -> Dice against the expert label map; None without one
    gain                missing modality that improves the mean Dice most by the card of the weights, in words
    """
    folder, chosen = folder_of(source, weights, subset), Subset.parse(subset)
    if (folder / _HEAT).exists():  # the last file
        return _restored(folder)
    if chosen != preparation.subset and not (folder_of(source, weights, str(preparation.subset)) / MASK).exists():
        segment(desk, source, preparation, weights, str(preparation.subset), progress)[AFTERWARDS]()
    prepared, volume = desk.encoded(source, preparation, weights, progress)
    segmenter = desk.segmenter(weights)
    reconstruct = segmenter.system.reconstructs and len(chosen) < len(MODALITIES)
    prediction = volume.decode(chosen, reconstruct, progress)
    folder.mkdir(parents=True, exist_ok=True)
    affine, box, grid = preparation.study.affine, prepared.box, prepared.grid
    inner = prediction.label_map()  # all of a segmentation is in the box
    classes = prepared.paste(inner)
    regions = region_probabilities(prediction.probabilities.numpy(), prediction.kind)
    write_labels(folder / MASK, classes, affine)
    found: dict[str, Any] = {"mask": MASK, "probabilities": {}, "subset": subset}
    for region in REGIONS:
        found["probabilities"][region] = f"probability-{region}.nii.gz"
    found["uncertainty"] = _HEAT
    found["reconstructed"] = _write_reconstructed(folder, prediction, box, grid, affine)
    found["volumes_ml"] = volumes_ml(inner, affine)
    found["confidence"] = _confidence(inner, regions)
    before = inner
    if chosen != preparation.subset:
        before = read_labels(folder_of(source, weights, str(preparation.subset)) / MASK, grid)[box]
    found["compared_with_full"] = changes(before, inner, affine)
    found["change"] = "change.nii.gz"
    write_labels(folder / "change.nii.gz", prepared.paste(compared(inner, before)), affine)
    found["gain"] = _gain(chosen, segmenter.card)
    expert = source.maps / "label-expert.nii.gz"
    found["dice"] = dice(classes, read_labels(expert, grid)) if expert.exists() else None
    write_json(folder / _RECORD, found)

    def write_heat() -> None:
        for region, share in zip(REGIONS, regions, strict=True):
            stored = prepared.paste(in_bytes(share))
            write_share(folder / found["probabilities"][region], stored, affine)
        stored = prepared.paste(in_bytes(entropy(regions).astype(np.float32)))
        write_share(folder / found["uncertainty"], stored, affine)

    return {**_restored(folder), AFTERWARDS: write_heat}


def _restored(folder: Path) -> dict[str, Any]:
    """Return what was recorded, with paths in place of names of files."""
    found: dict[str, Any] = json.loads(read_text(folder / _RECORD))
    for key in ("mask", "change", "uncertainty"):
        found[key] = folder / found[key]
    found["probabilities"] = {region: folder / name for region, name in found["probabilities"].items()}
    found["reconstructed"] = [{**each, "path": folder / each["path"]} for each in found["reconstructed"]]
    return found


def relate(source: CaseSource, preparation: Preparation, weights: Path) -> dict[str, Any]:
    """Return `agreement`: subset -> modality -> mean Dice between the segmentations with and without the modality.

    Only subsets that were segmented count.
    """
    shape = next(iter(preparation.study.images.values())).shape
    files = {subset: folder_of(source, weights, str(subset)) / MASK for subset in SUBSETS}
    masks = {subset: read_labels(file, shape) for subset, file in files.items() if file.exists()}
    boxes = [box_of_both(mask, mask) for mask in masks.values()]
    # One box for all makes the comparisons cheap.
    x, y, z = (slice(min(b[i].start for b in boxes), max(b[i].stop for b in boxes)) for i in range(3))
    masks = {subset: mask[x, y, z] for subset, mask in masks.items()}
    agreement: dict[str, dict[str, float]] = {}
    for subset, mask in masks.items():
        for modality in subset if len(subset) > 1 else ():
            less = masks.get(Subset.of(each for each in subset if each != modality))
            if less is not None:
                values = dice(mask, less).values()
                agreement.setdefault(str(subset), {})[modality] = round(sum(values) / len(REGIONS), 4)
    return {"agreement": agreement}


def _confidence(classes: NDArray[np.uint8], regions: NDArray[np.float32]) -> dict[str, float | None]:
    """Return one minus the `uncertain_share` of measurements.json."""
    found: dict[str, float | None] = {}
    for region, probability in zip(REGIONS, regions, strict=True):
        mask = region_mask(classes, region)
        certain = probability.astype(np.float16)[mask] > THRESHOLDS[1]
        found[region] = round(float(certain.mean()), 4) if certain.size else None
    return found


def _write_reconstructed(
    folder: Path, prediction: VolumePrediction, box: Any, grid: tuple[int, int, int], affine: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Write reconstructed scans in the units of the network; around its box they have their lowest value."""
    found = []
    for modality, values in prediction.reconstructed.items():
        scan = values.numpy()
        whole = np.full(grid, scan.min(), dtype=np.float32)
        whole[box] = scan
        name = f"reconstructed-{modality}.nii.gz"
        write_scan(folder / name, whole, affine)
        low, high = np.percentile(scan, (1, 99.5))
        window = [float(low), float(max(high, low + 1e-6))]
        found.append({"name": modality, "path": name, "kind": "reconstructed", "window": window})
    return found


def _gain(subset: Subset, card: WeightsCard) -> Mapping[str, str] | None:
    """Return the missing modality with the largest gain in Dice on the card of the weights, and a sentence about it."""
    table = next((each for each in card.tables if str(subset) in each.dice), None)
    gains = expected_gains(subset, None if table is None else table.dice) or ()
    best = max(gains, key=lambda gain: sum(gain.change.values()), default=None)
    if table is None or best is None:
        return None
    values = [f"{region} {100 * best.before[region]:.0f} to {100 * best.after[region]:.0f} %" for region in best.before]
    cases = count(table.cases, "case")
    return {
        "modality": best.modality,
        "text": f"With {best.modality} the mean Dice changed most: {listed(values, 4)} ({cases}: {table.data}).",
    }
