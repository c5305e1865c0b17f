"""The result of segmenting one case, and how it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Case, read_study
from anymri.data.image import Image, from_lps, write_like
from anymri.files import output_folder, refuse_overwriting, write_json, write_text
from anymri.inference.gains import DiceBySubset, expected_gains
from anymri.inference.lesions import middle_of
from anymri.inference.measurements import REGIONS, Measurements, as_table, intensity_statistics, measure
from anymri.inference.result_files import (
    DISAGREEMENT,
    FILES,
    MEASUREMENTS,
    PROBABILITIES,
    PROVENANCE,
    RECONSTRUCTED,
    SEGMENTATION,
    STATISTICS,
    TABLE,
    UNCERTAINTY,
)
from anymri.modalities import MODALITIES, Subset
from anymri.provenance import Inputs, provenance
from anymri.regions import CLASSES, region_mask
from anymri.weights.card import WeightsCard

if TYPE_CHECKING:
    from anymri.prepare.preparation import Preparation


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A label map in the geometry of one of the scans, with what it was made from.

    All maps are on the grid of `reference`, in its stored orientation.

    classes        (x, y, z) uint8 classes of `anymri.regions.CLASSES`
    subset         modalities that it was made from
    reference      image whose geometry it has, by default the first scan of T1c, FLAIR, T2 and T1 that exists
    case           files of the case
    card           card of the weights
    inputs         files of the case and of the weights, with their hashes when they were read
    device         where it was computed, for example "cpu"
    probabilities  (3, x, y, z) float16 in 0..1 for WT, TC and ET; None unless requested
    uncertainty    (x, y, z) float16 in 0..1, see `anymri.inference.uncertainty.entropy`; None unless requested
    disagreement   (x, y, z) float16 in 0..1, see `anymri.inference.uncertainty.disagreement`; None without several
                   predictions
    reconstructed  missing modality -> (x, y, z) float32 in the units of the network's input; empty unless requested
    preparation    the scans as they were prepared, and what was done to them; None if they were used as they are
    smallest_ml    volume below which tumours were removed, in millilitres
    """

    classes: NDArray[np.uint8]
    subset: Subset
    reference: Image
    case: Case
    card: WeightsCard
    inputs: Inputs
    device: str
    probabilities: NDArray[np.float16] | None = None
    uncertainty: NDArray[np.float16] | None = None
    disagreement: NDArray[np.float16] | None = None
    reconstructed: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    preparation: Preparation | None = None
    smallest_ml: float = 0.0

    def __repr__(self) -> str:
        volumes = ", ".join(f"{name} {millilitres:.1f} mL" for name, millilitres in self.volumes_ml.items())
        return f"Result({self.case.name}, {self.subset}: {volumes})"

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each region, and of each class that the network has, in millilitres."""
        masks = {region: region_mask(self.classes, region) for region in REGIONS}
        masks |= {CLASSES[value]: self.classes == value for value in range(1, self._num_classes)}
        voxel_ml = self.reference.voxel_volume_ml
        return {name: round(float(mask.sum()) * voxel_ml, 4) for name, mask in masks.items()}

    @cached_property
    def measurements(self) -> Measurements:
        """Volumes, lesions, axial diameters, sides, and shares of uncertain voxels; computed once."""
        middle_mm = middle_of(self.reference.array, self.reference.affine)
        return measure(self.classes, self.reference.affine, self.probabilities, middle_mm, self._num_classes)

    @property
    def space(self) -> str:
        """Name of the grid of the result: the modality of `reference`, or `prepared` for that of the network."""
        if self.preparation is None:
            return next((m for m, path in self.case.scans.items() if path == self.reference.path), "prepared")
        images = self.preparation.images.items()
        return next((modality for modality, image in images if image is self.reference), "prepared")

    def scans(self) -> dict[str, NDArray[np.float32]]:
        """Return modality -> scan (x, y, z) on the grid of the result, for pictures.

        Scans that were prepared are as the network got them before normalisation, interpolated linearly; the others
        are read again from their files.
        """
        made = self.preparation
        study = read_study(self.case) if made is None else made.study
        if made is None or (made.is_as_found and self.reference is study.reference):
            return {modality: from_lps(scan, self.reference) for modality, scan in study.images.items()}
        return {modality: made.bring(self.space, scan) for modality, scan in study.images.items()}

    def save(
        self,
        folder: Path | str,
        *,
        probabilities: bool = True,
        statistics: bool = False,
        dice_by_subset: DiceBySubset | None = None,
    ) -> Path:
        """Write the result into a folder and return the path of the label map; docs/results.md describes the files.

        segmentation.nii.gz                    label map
        measurements.json                      all measurements
        measurements.csv                       those of regions, classes and lesions, one per row
        statistics.json                        volume in mm3 and mean intensity on `reference`, with the keys of
                                               TotalSegmentator
        probability-WT.nii.gz, -TC, -ET        float32 in 0..1, with the precision of half floats
        uncertainty.nii.gz, disagreement.nii.gz    float32 in 0..1
        reconstructed-T1.nii.gz, ...           float32 in the units of the network's input
        provenance.json                        weights, preparation, inputs with their hashes, versions and device

        Maps that the result does not have are not written. Files of an earlier result in the folder are removed.

        probabilities   write the probabilities; without it they only count in the measurements
        statistics      write the statistics
        dice_by_subset  mean Dice by subset and region, of an evaluation of the weights: adds to the measurements what
                        each missing modality would bring; by default the first table on the card of the weights

        Raises `OutputError` if the folder cannot be written, or if one of the files is an input.
        """
        target = output_folder(Path(folder))
        check_output(target, self.inputs)
        (target / PROVENANCE).unlink(missing_ok=True)  # it is written last: it never describes another result
        write_like(target / SEGMENTATION, self.classes, self.reference)
        maps = self._maps(probabilities)
        for name, values in maps.items():
            write_like(target / name, values.astype(np.float32), self.reference)
        measured = self._measured(dice_by_subset)
        write_json(target / MEASUREMENTS, measured)
        write_text(target / TABLE, as_table(measured))
        written = {SEGMENTATION, MEASUREMENTS, TABLE, *maps}
        if statistics:
            found = intensity_statistics(self.classes, self.reference.array, self.reference.affine)
            write_json(target / STATISTICS, found)
            written.add(STATISTICS)
        for name in FILES:
            if name not in written:
                (target / name).unlink(missing_ok=True)
        configuration: dict[str, Any] = {
            "weights": self.card.model_dump(mode="json"),
            "modalities": list(self.subset),
        }
        if self.smallest_ml > 0:
            configuration["smallest_ml"] = self.smallest_ml
        if self.preparation is not None:
            configuration |= {"space": self.space, "preparation": self.preparation.record()}
        write_json(target / PROVENANCE, provenance("segment", configuration, self.inputs, self.device))
        return target / SEGMENTATION

    def _maps(self, probabilities: bool) -> dict[str, NDArray[Any]]:
        """Return file name -> map, for the maps beside the label map that the result has."""
        maps: dict[str, NDArray[Any]] = {}
        if probabilities and self.probabilities is not None:
            maps |= {PROBABILITIES[region]: each for region, each in zip(REGIONS, self.probabilities, strict=True)}
        optional = {UNCERTAINTY: self.uncertainty, DISAGREEMENT: self.disagreement}
        maps |= {name: values for name, values in optional.items() if values is not None}
        return maps | {RECONSTRUCTED[modality]: values for modality, values in self.reconstructed.items()}

    def _measured(self, dice_by_subset: DiceBySubset | None) -> dict[str, Any]:
        """Return the content of measurements.json."""
        if dice_by_subset is None and self.card.tables:
            dice_by_subset = self.card.tables[0].dice
        gains = expected_gains(self.subset, dice_by_subset)
        return {
            "case": self.case.name,
            "modalities": list(self.subset),
            "missing": [modality for modality in MODALITIES if modality not in self.subset],
            "label_values": {name: value for value, name in enumerate(CLASSES)},
            "grid": {
                "space": self.space,
                "shape": list(self.reference.shape),
                "spacing_mm": [round(mm, 4) for mm in self.reference.spacing_mm],
                "orientation": self.reference.orientation,
            },
            **self.measurements.as_json(),
            "expected_dice": None if gains is None else {gain.modality: gain.as_json() for gain in gains},
        }

    @property
    def _num_classes(self) -> int:
        return int(self.card.network["num_classes"])


def check_output(folder: Path, inputs: Inputs) -> None:
    """Raise `OutputError` if saving a result in `folder` would overwrite or remove one of the inputs."""
    refuse_overwriting([folder / name for name in FILES], [Path(each["file"]) for each in inputs.values()])
