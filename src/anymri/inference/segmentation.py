"""Segments one case from whichever modalities it has."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Case, Study, read_study
from anymri.data.image import Image, from_lps, write_like
from anymri.data.layouts import case_from_files, find_cases
from anymri.data.preprocessing import Preprocessed, preprocess
from anymri.errors import AnymriWarning, CohortError, ModalityError
from anymri.files import output_folder, write_json
from anymri.inference.device import pick_device
from anymri.inference.windows import Volume, Windows, predict
from anymri.manifest import manifest
from anymri.modalities import MODALITIES, Subset
from anymri.regions import CLASSES, region_mask, to_label_map
from anymri.systems.base import System
from anymri.systems.weights import WeightsCard, find_weights, load_weights

# Spacings this far from 1 mm are said aloud: networks see 1 mm in training.
SPACING_TOLERANCE_MM = 0.25


@dataclass
class Segmentation:
    """A label map with what is known about it.

    classes    (x, y, z) uint8 classes of `anymri.regions.CLASSES`, in the stored orientation of `reference`
    subset     the modalities it was made from
    reference  the scan whose geometry it has: the first of T1c, FLAIR, T2, T1 that exists
    """

    classes: NDArray[np.uint8]
    subset: Subset
    reference: Image
    case: Case
    weights: WeightsCard

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each region, and of each class that the network knows, in millilitres."""
        known = range(1, self.weights.network["num_classes"])
        masks = {region: region_mask(self.classes, region) for region in ("WT", "TC", "ET")}
        masks |= {CLASSES[value]: self.classes == value for value in known}
        millilitres = self.reference.voxel_volume_ml
        return {name: round(float(mask.sum()) * millilitres, 4) for name, mask in masks.items()}

    def save(self, folder: Path) -> Path:
        """Writes segmentation.nii.gz in exactly the reference's geometry, and volumes.json; returns the former."""
        path = folder / "segmentation.nii.gz"
        write_like(path, self.classes, self.reference)
        write_json(
            folder / "volumes.json",
            {
                "case": self.case.name,
                "modalities": list(self.subset),
                "volumes_ml": self.volumes_ml,
                "voxel_volume_ml": self.reference.voxel_volume_ml,
                "label_values": {name: value for value, name in enumerate(CLASSES)},
            },
        )
        return path


def segment(
    case: Path | str | None = None,
    *,
    t1: Path | str | None = None,
    t1c: Path | str | None = None,
    t2: Path | str | None = None,
    flair: Path | str | None = None,
    brain_mask: Path | str | None = None,
    weights: Path | str,
    subset: Subset | str | None = None,
    device: str = "auto",
    output: Path | str | None = None,
) -> Segmentation:
    """Segments a case folder, or scans given one by one; any non-empty set of modalities will do.

    brain_mask  a mask of the brain, for scans whose background is not constant
    weights     a run folder or weights file
    subset      use only these of the modalities found
    output      where to write segmentation.nii.gz, volumes.json and manifest.json, if anywhere

    Raises `AnymriError`s that say what is wrong with which file.

    >>> anymri.segment(t1c="t1c.nii.gz", flair="flair.nii.gz", weights="RUN").volumes_ml
    {'WT': 61.2, 'TC': 23.4, 'ET': 12.9, 'NCR': 10.5, 'ED': 37.8}
    """
    scans = {m: Path(p) for m, p in zip(MODALITIES, (t1, t1c, t2, flair), strict=True) if p is not None}
    found = _one_case(case, scans, None if brain_mask is None else Path(brain_mask))
    if subset is not None:
        found = _restricted(found, Subset.parse(subset) if isinstance(subset, str) else subset)
    where = pick_device(device)
    system, card = load_weights(Path(weights), where)
    study = read_study(found)
    _warn_of_spacing(study)
    data = preprocess(study, card.preprocessing)
    if output is not None:
        output_folder(Path(output))  # refused before the work, not after it
    (classes,) = label_maps(system, card, data, [found.subset])
    result = Segmentation(from_lps(classes, study.reference), found.subset, study.reference, found, card)
    if output is not None:
        folder = Path(output)
        result.save(folder)
        record: dict[str, Any] = {"weights": card.model_dump(mode="json"), "modalities": list(found.subset)}
        inputs = {**found.files(), "weights": find_weights(Path(weights))}
        write_json(folder / "manifest.json", manifest("segment", record, inputs, str(where)))
    return result


def label_maps(
    system: System[Any], card: WeightsCard, data: Preprocessed, subsets: Sequence[Subset]
) -> list[NDArray[np.uint8]]:
    """Classes on the whole grid of a preprocessed case, in LPS, for each of the subsets."""
    answers = predict(system, Volume.of(data), subsets, Windows.of(card))
    return [data.paste(to_label_map(answer, system.scores).numpy()) for answer in answers]


def _one_case(folder: Path | str | None, scans: dict[str, Path], brain_mask: Path | None) -> Case:
    if folder is not None and scans:
        raise CohortError("Both a case folder and single scans were given.", "Give one or the other.")
    if folder is None:
        if not scans:
            raise ModalityError(
                "No scan was given.", "Give a case folder, or at least one of --t1, --t1c, --t2 and --flair."
            )
        return case_from_files(scans, brain_mask=brain_mask)
    cases = find_cases(Path(folder))
    if len(cases) > 1:
        raise CohortError(
            f"{folder} holds {len(cases)} cases ({cases[0].name}, {cases[1].name}, ...).",
            "Give the folder of one case.",
        )
    return cases[0]


def _restricted(case: Case, subset: Subset) -> Case:
    if not subset <= case.subset:
        raise ModalityError(
            f"{case.name} has {case.subset}, not {subset}.", "Ask for a subset of the modalities that exist."
        )
    return Case(case.name, {m: case.scans[m] for m in subset}, case.label, case.brain_mask, case.patient)


def _warn_of_spacing(study: Study) -> None:
    spacing = study.reference.spacing_mm
    if max(abs(mm - 1) for mm in spacing) > SPACING_TOLERANCE_MM:
        shown = " x ".join(f"{mm:.2f}" for mm in spacing)
        warnings.warn(
            f"{study.reference.path} has voxels of {shown} mm; networks are trained at 1 mm, so expect errors.",
            AnymriWarning,
            stacklevel=3,
        )
