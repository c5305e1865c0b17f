"""Two time points of one patient: what must hold before their tumours are compared."""

from __future__ import annotations

import warnings
from datetime import datetime

from anymri.errors import CohortError, ConfigurationError, InputWarning, ModalityError
from anymri.modalities import Subset, as_subset
from anymri.prepare.raw import RawStudy


def check_time_points(first: RawStudy, second: RawStudy) -> None:
    """Raise an `AnymriError` if two studies are the same scans, or of different patients.

    Patients are compared by the headers of DICOM, and by names that contain a time point, as BraTS-GLI-00012-001.
    Where neither says who the patient is, the registration of the two studies is the only check.
    """
    hashes = [
        {each["sha256"] for role, each in study.inputs.items() if role in study.scans} for study in (first, second)
    ]
    if hashes[0] & hashes[1]:
        raise ConfigurationError(
            f"{first.name} and {second.name} have a scan in common: they are not two time points.",
            "Give the scans of an earlier and of a later examination.",
        )
    series = [scan.series for study in (first, second) for scan in study.scans.values() if scan.series is not None]
    if series:
        from anymri.prepare.dicom.studies import check_patients

        check_patients((each.headers[0] for each in series), "The comparison")
    patients = [study.case.patient for study in (first, second) if study.case.patient != study.case.name]
    if len(set(patients)) > 1:
        raise CohortError(
            f"{first.name} and {second.name} are of two patients by their names.",
            "Give two time points of one patient.",
        )


def common_subset(first: RawStudy, second: RawStudy, subset: Subset | str | None) -> Subset:
    """Return the modalities that are used at both time points: those that both have, or the subset that is named.

    The output of a network depends on the modalities, so that different ones would look like a change of the tumour.
    An `InputWarning` names scans that are not used for this reason. Raises `ModalityError` if nothing is in common, or
    if a time point does not have the subset.
    """
    common = [modality for modality in first.subset if modality in second.subset]
    if subset is not None:
        chosen = as_subset(subset)
        for study in (first, second):
            if not chosen <= study.subset:
                advice = (
                    f"Choose from {'+'.join(common)} with --subset."
                    if common
                    else "Choose other scans: they share none."
                )
                raise ModalityError(f"{study.name} has {study.subset}, not {chosen}.", advice)
        return chosen
    if not common:
        raise ModalityError(
            f"{first.name} has {first.subset} and {second.name} has {second.subset}: they have no modality in common.",
            "Give time points that have at least one modality in common.",
        )
    chosen = Subset.of(common)
    unused = [f"{m} of {study.name}" for study in (first, second) for m in study.subset if m not in chosen]
    if unused:
        warnings.warn(
            f"Both time points are segmented from {chosen}, which both have. Not used: {', '.join(unused)}.",
            InputWarning,
            stacklevel=2,
        )
    return chosen


def days_between(first: RawStudy, second: RawStudy) -> int | None:
    """Return the days from the first to the second examination; None if a header does not state the date.

    An `InputWarning` says that the second one is the older.
    """
    moments = [_acquired(study) for study in (first, second)]
    if moments[0] is None or moments[1] is None:
        return None
    days = (moments[1].date() - moments[0].date()).days
    if moments[1] < moments[0]:
        warnings.warn(
            f"The second time point, {second.name}, is older than the first, {first.name}: changes are computed "
            "backwards in time. Swap the two for the usual direction.",
            InputWarning,
            stacklevel=2,
        )
    return days


def _acquired(study: RawStudy) -> datetime | None:
    """Return when the first scan of a study was acquired."""
    found = [scan.series.acquired for scan in study.scans.values() if scan.series is not None]
    known = [moment for moment in found if moment is not None]
    return min(known) if known else None
