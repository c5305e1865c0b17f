"""Two time points of one patient: segmented by one model from one subset, registered, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image, write_like
from anymri.errors import GeometryError
from anymri.extras import need
from anymri.files import locked, refuse_overwriting, write_json
from anymri.inference.change import Change, Volumes
from anymri.inference.ensemble import Model
from anymri.inference.measurements import REGIONS
from anymri.inference.repositioning import repositioned
from anymri.inference.result import Result
from anymri.inference.time_points import check_time_points, common_subset, days_between
from anymri.modalities import REFERENCE_ORDER, Subset
from anymri.prepare.grid import Grid
from anymri.prepare.preparation import Preparation, prepare
from anymri.prepare.raw import RawStudy
from anymri.prepare.registration import Registration, register
from anymri.prepare.resampling import resample_labels
from anymri.progress import Progress, silent
from anymri.provenance import provenance
from anymri.regions import region_mask

FIRST, SECOND = "first", "second"
FOLLOW_UP, ALIGNED, PROVENANCE = "follow-up.json", "second-on-first.nii.gz", "provenance.json"
# Files that callers add: page and DICOM report.
ADDED = ("follow-up.html", "follow-up.dcm")


@dataclass(frozen=True, eq=False)
class FollowUp:
    """Comparison of a tumour at two time points.

    first, second  segmentations from the same subset, each on the grid of one of its scans
    days           days from the first to the second; None if they are unknown
    registration   from the first to the second; None if the headers were trusted
    changes        region -> change of its volume
    aligned        (x, y, z) uint8 classes of the second time point on the grid of the first result
    """

    first: Result
    second: Result
    days: int | None
    registration: Registration | None
    changes: Mapping[str, Change]
    aligned: NDArray[np.uint8]

    @property
    def subset(self) -> Subset:
        """Modalities that were used at both time points."""
        return self.first.subset

    @property
    def transform(self) -> NDArray[np.float64]:
        """World of the first scans to world of the second ones, (4, 4) RAS+ millimetres."""
        return np.eye(4) if self.registration is None else self.registration.transform

    def as_json(self) -> dict[str, Any]:
        """Return all figures as plain values: volumes in mL, lengths in mm."""
        found = self.registration
        return {
            "first": self.first.case.name,
            "second": self.second.case.name,
            "days": self.days,
            "modalities": list(self.subset),
            "interval": "Range of twelve differences: thresholds 0.25, 0.5 and 0.75, each case as it is and "
            "repositioned. It is not a confidence interval; see docs/follow-up.md.",
            "registration": None
            if found is None
            else {
                "reason": found.reason,
                "shift_mm": round(found.shift_mm, 2),
                "angle_degrees": round(found.angle_degrees, 2),
                "residual_mm": round(found.residual_mm, 3),
                "overlap": round(found.overlap, 4),
                "transform_ras_mm": np.round(found.transform, 6).tolist(),
            },
            "regions": {region: self._region(region) for region in REGIONS},
        }

    def _region(self, region: str) -> dict[str, Any]:
        voxel_ml = self.first.reference.voxel_volume_ml
        before, after = region_mask(self.first.classes, region), region_mask(self.aligned, region)
        places = {"in_both": before & after, "only_first": before & ~after, "only_second": after & ~before}
        values = self.changes[region].as_json()
        values |= {f"{name}_ml": round(float(np.count_nonzero(mask)) * voxel_ml, 4) for name, mask in places.items()}
        if region == "ET":
            for name, result in ((FIRST, self.first), (SECOND, self.second)):
                products = result.measurements.regions[region].sum_of_products_mm2
                values[name]["sum_of_products_mm2"] = round(products, 1)
        return values

    def save(self, folder: Path) -> Path:
        """Write follow-up.json, the aligned label map and provenance into a folder, and return the path of the first.

        The folders `first` and `second` in it are results, which `follow_up` writes. Files of an earlier comparison
        are removed. Raises `OutputError` if the folder cannot be written or if one of the files is an input.
        """
        inputs = {
            f"{name} {role}": each
            for name, result in ((FIRST, self.first), (SECOND, self.second))
            for role, each in result.inputs.items()
        }
        names = (FOLLOW_UP, ALIGNED, PROVENANCE, *ADDED)
        refuse_overwriting([folder / name for name in names], [Path(each["file"]) for each in inputs.values()])
        for name in names:
            (folder / name).unlink(missing_ok=True)
        write_like(folder / ALIGNED, self.aligned, self.first.reference)
        write_json(folder / FOLLOW_UP, self.as_json())
        configuration = {"weights": self.first.card.model_dump(mode="json"), "modalities": list(self.subset)}
        write_json(folder / PROVENANCE, provenance("follow-up", configuration, inputs, self.first.device))
        return folder / FOLLOW_UP


def follow_up(
    model: Model,
    first: RawStudy,
    second: RawStudy,
    output: Path | None = None,
    *,
    subset: Subset | str | None = None,
    brain: str = "auto",
    registration: bool = True,
    progress: Progress = silent,
) -> FollowUp:
    """Segment two time points of one patient by the same model from the same modalities, and compare them.

    model         the loaded weights
    first         scans of the earlier time point
    output        folder for the comparison and both results; by default nothing is written
    subset        modalities to use at both; by default those that both have
    brain         see `Segmenter.segment`
    registration  whether scans are registered, within a time point and between the two; otherwise their headers are
                  trusted

    Raises `CohortError` for two patients, `ModalityError` without a common modality, `GeometryError` if the time points
    cannot be aligned, and the errors of `Segmenter.segment`.
    """
    need("prepare", "SimpleITK", purpose="Comparing two time points")
    check_time_points(first, second)
    chosen, days = common_subset(first, second, subset), days_between(first, second)
    with nullcontext() if output is None else locked(output):
        if output is not None:
            (output / PROVENANCE).unlink(missing_ok=True)  # it is written last
        ready = [prepare(study, brain, False, registration, needed=set(chosen)) for study in (first, second)]
        progress("registration", 0, 5)
        found = _registered(ready[0], ready[1], chosen) if registration else None
        done, measured, again = [], [], []
        for number, (name, case) in enumerate(zip((FIRST, SECOND), ready, strict=True)):
            progress(f"{name} time point", 1 + 2 * number, 5)
            result = model.segment(case, chosen, probabilities=True)
            if output is not None:
                result.save(output / name, probabilities=False)
            progress(f"{name} time point, repositioned", 2 + 2 * number, 5)
            repeat = model.segment(repositioned(case), chosen, probabilities=True)
            done.append(result)
            measured.append(result.measurements)
            again.append(repeat.measurements)
        changes = {
            region: Change(*(Volumes.of(region, *each) for each in zip(measured, again, strict=True)))
            for region in REGIONS
        }
        compared = FollowUp(done[0], done[1], days, found, changes, _aligned(done[0], done[1], found))
        if output is not None:
            compared.save(output)
        progress("", 5, 5)
    return compared


def _registered(first: Preparation, second: Preparation, subset: Subset) -> Registration:
    """Return the registration of the first time point to the second by one modality that both have.

    Raises `GeometryError` if it does not pass its checks.
    """
    modality = next(each for each in REFERENCE_ORDER if each in subset)
    fixed, moving = (
        Image(each.study.images[modality], each.study.affine, each.images[modality].path) for each in (first, second)
    )
    found = register(moving, fixed, second.study.brain, first.study.brain)
    if not found.accepted:
        raise GeometryError(
            f"The {modality} scans of {first.name} and {second.name} cannot be aligned: {found.reason}",
            "Check that both are of one patient; if they are, compare them by their headers with --no-registration.",
        )
    return found


def _aligned(first: Result, second: Result, found: Registration | None) -> NDArray[np.uint8]:
    """Return the label map of the second time point on the grid of the first result."""
    transform = np.eye(4) if found is None else found.transform
    return resample_labels(second.classes, second.reference.affine, Grid.of(first.reference), transform)
