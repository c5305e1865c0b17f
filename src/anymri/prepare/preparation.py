"""Preparation of a raw study: scans of any geometry become a study on one grid, with a record and the way back.

What is done depends on what is needed. Scans on one grid of about 1 mm without skull stay as they are. Otherwise the
brain is found, the scans are registered to the best one and resampled to 1 mm, and voxels outside the brain become 0,
as in the data that networks are trained on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Study, as_brain_mask, reorient_to_grid
from anymri.data.image import Image, to_lps
from anymri.errors import ConfigurationError, GeometryError, did_you_mean
from anymri.extras import need
from anymri.modalities import REFERENCE_ORDER, Subset
from anymri.prepare.alignment import Transform, align, best_scan, describe, find_brains
from anymri.prepare.bias_field import correct_bias_field
from anymri.prepare.brain_methods import check_brain_method
from anymri.prepare.checks import check_spacing, shows_head, unlike_training
from anymri.prepare.common_grid import grid_of_brain, resampled
from anymri.prepare.grid import Grid
from anymri.prepare.plausibility import warn_of_doubts, warn_of_two_heads
from anymri.prepare.raw import RawScan, RawStudy
from anymri.prepare.resampling import resample
from anymri.prepare.steps import STUDY, Record, Step
from anymri.provenance import Inputs, hashed
from anymri.regions import OutputKind

if TYPE_CHECKING:
    from anymri.data.prepared import Box

# Name of the grid on which a network computes.
PREPARED = "prepared"


@dataclass(frozen=True, eq=False)
class Preparation:
    """A study as a network takes it, with the record of what was done and the way back to every scan.

    study       scans on one grid, in LPS
    raw         scans as they were found: those that were prepared
    transforms  modality -> (4, 4): world of the prepared grid to that of the scan, RAS+ millimetres
    steps       what was done; empty if the scans were used as they are
    """

    study: Study
    raw: RawStudy
    transforms: Mapping[str, Transform]
    steps: tuple[Step, ...] = field(default=())

    @property
    def name(self) -> str:
        """Name of the case."""
        return self.raw.name

    @property
    def subset(self) -> Subset:
        """Modalities of the study."""
        return Subset.of(self.study.images)

    @property
    def images(self) -> dict[str, Image]:
        """Modality -> scan as it was found."""
        return {modality: scan.image for modality, scan in self.raw.scans.items()}

    @property
    def inputs(self) -> Inputs:
        """Files of the scans, with their hashes when they were read."""
        return self.raw.inputs

    @property
    def is_as_found(self) -> bool:
        """Whether the scans are used as they were found."""
        return not self.steps

    @property
    def can_be_read_again(self) -> bool:
        """Whether the study is what `anymri.data.case.read_study` returns for its case."""
        scans = self.raw.scans.values()
        return self.is_as_found and all(scan.series is None and scan.files == (scan.image.path,) for scan in scans)

    @property
    def grids(self) -> dict[str, Grid]:
        """Modality -> grid in the orientation of its file; `prepared` -> grid of the study."""
        grids = {modality: Grid.of(image) for modality, image in self.images.items()}
        return grids | {PREPARED: self._prepared}

    @property
    def _prepared(self) -> Grid:
        x, y, z = next(iter(self.study.images.values())).shape
        return Grid((x, y, z), self.study.affine)

    def reference(self, space: str) -> Image:
        """Return the image in whose geometry a map of a space is written.

        space  a modality, or `prepared`

        Raises `ConfigurationError` for a space that is not there.
        """
        if space == PREPARED:
            modality, array = next(iter(self.study.images.items()))
            return Image(array, self.study.affine, self.images[modality].path)
        if space not in self.images:
            hint = did_you_mean(space, (*self.images, PREPARED))
            raise ConfigurationError(
                f"There is no space {space!r} in this study.", f"{hint}Known: {', '.join((*self.images, PREPARED))}."
            )
        return self.images[space]

    def bring(
        self, space: str, values: NDArray[Any], box: Box | None = None, outside: float = 0.0
    ) -> NDArray[np.float32]:
        """Return a map of the prepared grid on the grid of a space, (x, y, z) float32, by linear interpolation.

        space    a modality, whose result has the orientation of its file; or `prepared`
        values   (X, Y, Z) on the prepared grid, or in its box
        outside  value outside the prepared grid
        """
        reference = self.reference(space)
        affine = self.study.affine.copy()
        if box is not None:
            affine[:3, 3] = affine[:3, :3] @ [axis.start for axis in box] + affine[:3, 3]
        to_scan: Transform = np.eye(4) if space == PREPARED else self.transforms[space]
        back = np.asarray(np.linalg.inv(to_scan), dtype=np.float64)
        return resample(values, affine, Grid.of(reference), back, outside=outside)

    def labels_on(
        self, space: str, probabilities: NDArray[np.float32], kind: OutputKind, box: Box | None = None
    ) -> NDArray[np.uint8]:
        """Return the label map of probabilities on the grid of a space: classes (x, y, z) uint8.

        space          a modality, whose label map has the orientation of its file; or `prepared`
        probabilities  (K, X, Y, Z) on the prepared grid, or in its box; see `anymri.regions.to_label_map`
        kind           meaning of the K channels

        Probabilities are interpolated, never labels, so that no class appears between two others.
        """
        import torch

        from anymri.regions import to_label_map

        background = [float(kind == "classes" and channel == 0) for channel in range(len(probabilities))]
        brought = [
            self.bring(space, values, box, outside) for values, outside in zip(probabilities, background, strict=True)
        ]
        classes: NDArray[np.uint8] = to_label_map(torch.from_numpy(np.stack(brought)), kind).numpy()
        return classes

    def record(self) -> list[dict[str, Any]]:
        """Return the steps as plain values, ready for JSON."""
        return [step.as_dict() for step in self.steps]


def prepare(
    raw: RawStudy,
    brain_method: str = "auto",
    n4: bool = False,
    registration: bool = True,
    needed: Collection[str] | None = None,
) -> Preparation:
    """Return the study of raw scans, prepared as far as that is needed.

    brain_method  auto, deepbet, hd-bet or fallback, see `anymri.prepare.brain`; none: scans keep what is around the
                  brain
    n4            correct the bias fields
    registration  whether scans may be moved onto each other; otherwise their headers are trusted
    needed        modalities to prepare, if scans cannot be used as they are; by default all

    Raises `GeometryError` if scans cannot be aligned, `ImageError` if the brain is not whole, and `MissingExtraError`
    for a package that a step needs.
    """
    check_brain_method(brain_method)
    images = {modality: scan.image for modality, scan in raw.scans.items()}
    study = study_as_it_is(raw)
    reasons = reasons_to_prepare(raw, study, brain_method)
    if study is not None and not reasons and not n4:
        warn_of_doubts(raw)
        warn_of_two_heads(raw, study)
        return Preparation(study, raw, {modality: np.eye(4) for modality in images})
    if needed is not None and not set(raw.scans) <= set(needed):
        return prepare(raw.only(m for m in raw.scans if m in needed), brain_method, n4, registration)
    why = " ".join(reasons) or "The bias fields are corrected, as requested."
    need("prepare", "SimpleITK", purpose=f"{why} Preparing the scans")
    record = Record()
    describe(raw, record)
    record.add(STUDY, "reasons", why)
    check_spacing(raw)
    warn_of_doubts(raw)
    brains = {} if brain_method == "none" else find_brains(raw, brain_method, record)
    fixed = best_scan(raw)
    transforms = align(raw, brains, fixed, registration, record)
    grid, mask = grid_of_brain(raw, brains, transforms, fixed, record)
    arrays = {m: resampled(raw, m, grid, transforms[m], mask, record) for m in images}
    if n4:
        inside = np.ones(grid.shape, dtype=bool) if mask is None else mask
        for modality in images:
            arrays[modality] = correct_bias_field(arrays[modality], inside)
            record.add(modality, "bias field", "The bias field was corrected by N4.")
    reference = Image(arrays[fixed], grid.affine, images[fixed].path)
    prepared = Study(raw.case, arrays, grid.affine, None, mask, reference)
    return Preparation(prepared, raw, transforms, tuple(record.steps))


def as_found(study: Study) -> Preparation:
    """Return a study that was read without preparation as one that needs none."""
    case, reference = study.case, study.reference
    modality = next(m for m in REFERENCE_ORDER if m in study.images)
    scans = {modality: RawScan(reference, (reference.path,))}
    raw = RawStudy(case.name, scans, case=case, inputs=hashed(case.files()))
    return Preparation(study, raw, {modality: np.eye(4)})


def study_as_it_is(raw: RawStudy) -> Study | None:
    """Return the study of scans that are on one grid, as `anymri.data.case.read_study` does; None for several grids."""
    reference = raw.scans[raw.reference].image
    try:
        images = {m: reorient_to_grid(scan.image, reference, raw.name) for m, scan in raw.scans.items()}
        mask = None if raw.brain_mask is None else reorient_to_grid(raw.brain_mask, reference, raw.name)
    except GeometryError:
        return None
    _, affine = to_lps(reference.array, reference.affine)
    brain = None if mask is None or raw.brain_mask is None else as_brain_mask(mask, raw.brain_mask.path)
    return Study(raw.case, images, affine, None, brain, reference)


def reasons_to_prepare(raw: RawStudy, study: Study | None, brain_method: str) -> list[str]:
    """Return why scans cannot be used as they are, as sentences; none if they can.

    study  the scans on one grid, if they are on one
    """
    reasons = unlike_training(raw)
    if study is None:
        reasons.append("The files are on different grids.")
    for modality, scan in raw.scans.items() if brain_method != "none" else ():
        # Arrays of a study are contiguous, which makes this ten times faster.
        image = scan.image if study is None else replace(scan.image, array=study.images[modality])
        if shows_head(image):
            reasons.append(f"The {modality} scan shows the head around the brain.")
    return reasons
