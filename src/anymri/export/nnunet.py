"""Cohorts in the layout that nnU-Net version 2 trains on: imagesTr, labelsTr, imagesTs and dataset.json.

nnU-Net wants every channel of every case and label values without gaps. So the user chooses the channels, cases that
lack one of them are left out and listed, and label maps have the classes of anymri as values: those of the scheme
brats2023, or brats2024 with the resection cavity.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anymri._version import __version__
from anymri.data.case import Case, Study, read_study
from anymri.data.image import from_lps, read_image, write_like
from anymri.data.layouts import find_cohort
from anymri.data.layouts.found import counted
from anymri.errors import CohortError, InputWarning
from anymri.export.formats import NNUNET, check_folder
from anymri.files import new_folder, write_json
from anymri.modalities import Subset
from anymri.progress import Progress, silent
from anymri.regions import CLASSES, LabelScheme

_SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class NnunetExport:
    """What was exported.

    folder    the data set
    training  names of the cases with a label map, in imagesTr
    test      names of those without, in imagesTs
    left_out  name of a case without all channels -> its modalities
    """

    folder: Path
    training: tuple[str, ...]
    test: tuple[str, ...]
    left_out: Mapping[str, str]


def export_nnunet(
    cohort: Path, output: Path, scheme: LabelScheme, subset: Subset, progress: Progress = silent
) -> NnunetExport:
    """Write a cohort as data set of nnU-Net into a new folder, whole or not at all.

    cohort  any layout that `find_cohort` reads
    output  folder named DatasetNNN_NAME
    scheme  meaning of the label values of the cohort
    subset  the channels, in the order of `anymri.modalities.MODALITIES`

    Scans in .nii.gz whose axes are those of the reference of their case are linked (hard links), or copied where the
    file system does not allow it; others are written anew on its grid. Raises `CohortError` if no case has all
    channels, and the errors of `read_study`.
    """
    check_folder(output, NNUNET)
    found = find_cohort(cohort)
    found.warn()
    cases = [case for case in found.cases if subset <= case.subset]
    left_out = {case.name: str(case.subset) for case in found.cases if not subset <= case.subset}
    if not cases:
        raise CohortError(f"No case of {cohort} has all of {subset}.", f"{_largest(found.cases)}")
    if left_out:
        warnings.warn(
            f"nnU-Net needs every channel. Not used are cases without all of {subset}: {counted(list(left_out))}.",
            InputWarning,
            stacklevel=2,
        )
    training = tuple(case.name for case in cases if case.label is not None)
    test = tuple(case.name for case in cases if case.label is None)
    with new_folder(output) as folder:
        for number, case in enumerate(cases):
            progress(case.name, number, len(cases))
            _write_case(case, subset, scheme, folder)
        classes = sorted({0, *scheme.values.values()})
        write_json(folder / "dataset.json", _dataset(subset, classes, len(training)))
        facts = {
            "anymri": __version__,
            "channels": list(subset),
            "label_scheme_of_the_cohort": scheme.name,
            "label_scheme": "brats2024" if len(classes) == len(CLASSES) else "brats2023",
            "left_out": left_out,
        }
        write_json(folder / "anymri.json", facts)
    progress("", len(cases), len(cases))
    return NnunetExport(output, training, test, left_out)


def _dataset(subset: Subset, classes: list[int], training: int) -> dict[str, object]:
    """Return the content of dataset.json."""
    return {
        "channel_names": {str(number): modality for number, modality in enumerate(subset)},
        "labels": {CLASSES[value]: value for value in classes},
        "numTraining": training,
        "file_ending": _SUFFIX,
    }


def _write_case(case: Case, subset: Subset, scheme: LabelScheme, folder: Path) -> None:
    chosen = replace(case, scans={modality: case.scans[modality] for modality in subset}, brain_mask=None)
    study = read_study(chosen, scheme)
    split = "Ts" if study.classes is None else "Tr"
    images = folder / f"images{split}"
    images.mkdir(exist_ok=True)
    for channel, modality in enumerate(subset):
        target = images / f"{case.name}_{channel:04d}{_SUFFIX}"
        if not _can_be_linked(case.scans[modality], study):
            write_like(target, from_lps(study.images[modality], study.reference), study.reference)
        else:
            _link(case.scans[modality], target)
    if study.classes is not None:
        labels = folder / "labelsTr"
        labels.mkdir(exist_ok=True)
        write_like(labels / f"{case.name}{_SUFFIX}", from_lps(study.classes, study.reference), study.reference)


def _can_be_linked(file: Path, study: Study) -> bool:
    """Return whether a file has the suffix of the data set and the geometry of the reference, axes included."""
    if not file.name.endswith(_SUFFIX):
        return False
    if file == study.reference.path:
        return True
    image = read_image(file)
    return image.shape == study.reference.shape and np.allclose(image.affine, study.reference.affine, atol=1e-3)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, target)


def _largest(cases: list[Case]) -> str:
    """Return the advice which channels most cases have."""
    most, count = Counter(case.subset for case in cases).most_common(1)[0]
    return f"Choose the channels by --subset: {count} of {len(cases)} cases have {most}."
