"""The result of segmenting one case, and how it is saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Case
from anymri.data.image import Image, write_like
from anymri.files import output_folder, refuse_overwriting, write_json
from anymri.modalities import Subset
from anymri.provenance import Inputs, provenance
from anymri.regions import CLASSES, region_mask
from anymri.weights.card import WeightsCard

FILES = ("segmentation.nii.gz", "volumes.json", "provenance.json")


@dataclass(frozen=True, eq=False)
class Result:
    """A label map in the geometry of one of the scans, with what it was made from.

    classes    (x, y, z) uint8 classes of `anymri.regions.CLASSES`, in the stored orientation of `reference`
    subset     modalities that it was made from
    reference  scan whose geometry it has: the first of T1c, FLAIR, T2 and T1 that exists
    case       files of the case
    card       card of the weights
    inputs     files of the case and of the weights, with their hashes when they were read
    device     where it was computed, for example "cpu"
    """

    classes: NDArray[np.uint8]
    subset: Subset
    reference: Image
    case: Case
    card: WeightsCard
    inputs: Inputs
    device: str

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each region, and of each class that the network has, in millilitres."""
        masks = {region: region_mask(self.classes, region) for region in ("WT", "TC", "ET")}
        masks |= {CLASSES[value]: self.classes == value for value in range(1, self.card.network["num_classes"])}
        voxel_ml = self.reference.voxel_volume_ml
        return {name: round(float(mask.sum()) * voxel_ml, 4) for name, mask in masks.items()}

    def save(self, folder: Path | str) -> Path:
        """Write the result into a folder and return the path of the label map.

        segmentation.nii.gz  label map with the shape, affine and orientation of `reference`
        volumes.json         volumes in mL, modalities and label values
        provenance.json      weights, inputs with their hashes, versions and device

        Raises `OutputError` if the folder cannot be written, or if one of the files is an input.
        """
        target = output_folder(Path(folder))
        check_output(target, self.inputs)
        path, volumes, record = (target / name for name in FILES)
        record.unlink(missing_ok=True)  # it is written last, so that it never describes an earlier result
        write_like(path, self.classes, self.reference)
        write_json(
            volumes,
            {
                "case": self.case.name,
                "modalities": list(self.subset),
                "volumes_ml": self.volumes_ml,
                "voxel_volume_ml": self.reference.voxel_volume_ml,
                "label_values": {name: value for value, name in enumerate(CLASSES)},
            },
        )
        configuration = {"weights": self.card.model_dump(mode="json"), "modalities": list(self.subset)}
        write_json(record, provenance("segment", configuration, self.inputs, self.device))
        return path


def check_output(folder: Path, inputs: Inputs) -> None:
    """Raise `OutputError` if saving a result in `folder` would overwrite one of the inputs."""
    refuse_overwriting([folder / name for name in FILES], [Path(each["file"]) for each in inputs.values()])
