"""One patient and one study: what is mixed in one folder is refused, without printing who the patients are."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.errors import CohortError
from anymri.prepare.dicom.headers import text_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from anymri.prepare.dicom.series import Series

_IDENTIFIERS = {"PatientID": "patient ID", "PatientBirthDate": "birth date", "PatientName": "name"}
# Hashes can be compared within a process, and mean nothing outside it.
_KEY = secrets.token_bytes(16)


def patient_key(dataset: Dataset) -> str:
    """Return a keyed hash of the identifiers of a patient, the same only for the same values in the same process."""
    return _hashed("|".join(_normalised(dataset, keyword) for keyword in _IDENTIFIERS))


def check_patients(datasets: Iterable[Dataset], where: str) -> None:
    """Raise `CohortError` if headers are of more than one patient; a value that is missing agrees with any.

    where  what holds the files, for the error
    """
    found: dict[str, set[str]] = {keyword: set() for keyword in _IDENTIFIERS}
    for dataset in datasets:
        for keyword, hashes in found.items():
            if value := _normalised(dataset, keyword):
                hashes.add(_hashed(value))
    different = [(_IDENTIFIERS[keyword], len(hashes)) for keyword, hashes in found.items() if len(hashes) > 1]
    if different:
        listed = ", ".join(f"{count} values of the {what}" for what, count in different)
        raise CohortError(
            f"{where} has scans of more than one patient: {listed}.",
            "Give one folder per patient; if they are one patient, make the headers agree.",
        )


def check_one_patient(series: Iterable[Series]) -> None:
    """Raise `CohortError` if series, also of several folders, are of more than one patient."""
    check_patients((one.headers[0] for one in series), "The study")


def choose_study(uids: Sequence[str], titles: Sequence[str], wanted: int | None, where: Path) -> str:
    """Return the UID of the one study, or of study number `wanted`; raise `CohortError` if it is not clear.

    uids    StudyInstanceUID of each series
    titles  moment of each series as text, which gives the order of the studies and is not shown
    """
    first = {uid: min(title for one, title in zip(uids, titles, strict=True) if one == uid) for uid in uids}
    studies = sorted(first, key=lambda uid: (first[uid], uid))
    if wanted is None and len(studies) == 1:
        return studies[0]
    listed = ", ".join(
        f"study {number} with {count} series"
        for number, uid in enumerate(studies, 1)
        if (count := list(uids).count(uid))
    )
    if wanted is None:
        raise CohortError(
            f"{where} has {len(studies)} studies, in the order of their dates: {listed}.",
            "Give one folder per study, or the number of one study.",
        )
    if not 1 <= wanted <= len(studies):
        raise CohortError(
            f"{where} does not have a study {wanted}: it has {listed}.", "Give the number of one of them."
        )
    return studies[wanted - 1]


def _normalised(dataset: Dataset, keyword: str) -> str:
    text = text_of(dataset, keyword).casefold()
    return " ".join(text.replace("^", " ").replace("=", " ").split())


def _hashed(text: str) -> str:
    return hashlib.blake2b(text.encode(), key=_KEY, digest_size=16).hexdigest()
