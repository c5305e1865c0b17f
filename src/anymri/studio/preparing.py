"""A case read, prepared and written for the page: scans and label maps on the grid of the study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import reorient_to_grid
from anymri.data.image import Image, read_image
from anymri.errors import AnymriError
from anymri.inference.result_files import SEGMENTATION
from anymri.prepare.grid import Grid
from anymri.prepare.preparation import Preparation, prepare
from anymri.prepare.raw import RawStudy, read_raw
from anymri.progress import Progress
from anymri.regions import CLASSES, label_scheme
from anymri.studio.maps import Affine, Classes, volumes_ml, write_labels, write_scan
from anymri.studio.source import CORRECTED, CaseSource


def read(source: CaseSource, brain: str, progress: Progress) -> Preparation:
    """Return a case, prepared as far as that is needed, under its name; raise an `AnymriError` if it cannot be.

    brain  how the brain is found in scans with skull, see `anymri.prepare.preparation.prepare`
    """
    progress("reading the scans", 0, 2)
    if source.scans:
        raw = read_raw(None, source.scans, source.brain_mask)
    else:
        raw = read_raw(source.place, brain_mask=source.brain_mask)
    raw = _named(raw, source)
    progress("preparing the scans", 1, 2)
    return prepare(raw, brain)


def _named(raw: RawStudy, source: CaseSource) -> RawStudy:
    label = source.label or raw.case.label
    return replace(raw, name=source.name, case=replace(raw.case, name=source.name, label=label))


def written(source: CaseSource, preparation: Preparation, scheme: str | None, progress: Progress) -> dict[str, Any]:
    """Write the volumes and label maps of a prepared case into its folder.

    scheme   label scheme of the expert label map where the case has none

    volumes  one per scan: `name`, `path`, `kind`, `window` (intensities of black and white)
    labels   one per label map: `name`, `title`, `path`, `volumes_ml`
    inputs   files of the case with their hashes
    steps    what the preparation did, as sentences
    """
    from anymri.report.figures.slices import intensity_window

    study, folder = preparation.study, source.maps
    volumes: list[dict[str, Any]] = []
    for done, (modality, scan) in enumerate(study.images.items()):
        progress("writing the scans", done, len(study.images))
        path = folder / f"{modality}.nii.gz"
        write_scan(path, scan, study.affine)
        volumes.append({"name": modality, "path": path, "kind": "scan", "window": list(intensity_window(scan))})
    labels, problems = [], []
    for name, title, file, meaning in _label_files(source, preparation, scheme):
        try:
            classes = _read_label(file, meaning, preparation)
        except AnymriError as error:
            problems.append({"level": "warning", "scan": title, "text": error.what, "advice": error.fix})
            continue
        path = folder / f"label-{name}.nii.gz"
        write_labels(path, classes, study.affine)
        volumes_of = volumes_ml(classes, study.affine)
        labels.append({"name": name, "title": title, "path": path, "volumes_ml": volumes_of})
    x, y, z = next(iter(study.images.values())).shape
    return {
        "volumes": volumes,
        "labels": labels,
        "problems": problems,
        "inputs": preparation.inputs,
        "modalities": list(preparation.subset),
        "shape": [x, y, z],
        "affine": study.affine.tolist(),
        "steps": [step.why for step in preparation.steps],
    }


def _label_files(
    source: CaseSource, preparation: Preparation, scheme: str | None
) -> list[tuple[str, str, Path, str | None]]:
    """Return name, title, file and label scheme of the label maps of a case; None for the classes of anymri."""
    found: list[tuple[str, str, Path, str | None]] = []
    label = preparation.raw.case.label
    if label is not None:
        found.append(("expert", "Expert label", label, source.scheme or scheme or "brats2023"))
    if source.saved is not None:
        found.append(("saved", "Saved result", source.saved / SEGMENTATION, None))
    if source.corrections is not None and (source.corrections / CORRECTED).is_file():
        found.append(("corrected", "Corrected", source.corrections / CORRECTED, None))
    return found


def _read_label(file: Path, scheme: str | None, preparation: Preparation) -> Classes:
    image = read_image(file)
    if scheme is not None:
        classes = label_scheme(scheme).to_classes(image.array, str(file))
    else:
        classes = np.clip(np.rint(image.array), 0, len(CLASSES) - 1).astype(np.uint8)
    return on_study(classes, image.affine, preparation, file)


def on_study(classes: Classes, affine: Affine, preparation: Preparation, file: Path) -> Classes:
    """Return a label map (x, y, z) of any scan of a case on the grid of the study, (X, Y, Z)."""
    if preparation.is_as_found:
        image = Image(classes.astype(np.float32), affine, file)
        return reorient_to_grid(image, preparation.study.reference, preparation.name).astype(np.uint8)
    from anymri.prepare.resampling import resample_labels

    grid = Grid(_shape(classes), affine)
    same = [m for m, image in preparation.images.items() if Grid.of(image).same_as(grid)]
    modality = same[0] if same else preparation.raw.reference
    return resample_labels(classes, affine, preparation.grids["prepared"], preparation.transforms[modality])


def on_scan(classes: Classes, preparation: Preparation) -> tuple[Classes, Image]:
    """Return a label map of the study, (X, Y, Z), on the grid of the reference scan, and that scan."""
    from anymri.data.image import from_lps

    if preparation.is_as_found:
        reference = preparation.study.reference
        return np.ascontiguousarray(from_lps(classes, reference)), reference
    from anymri.prepare.resampling import resample_labels

    modality = preparation.raw.reference
    reference = preparation.images[modality]
    back = np.asarray(np.linalg.inv(preparation.transforms[modality]), dtype=np.float64)
    return resample_labels(classes, preparation.study.affine, Grid.of(reference), back), reference


def _shape(array: NDArray[Any]) -> tuple[int, int, int]:
    x, y, z = array.shape
    return x, y, z
