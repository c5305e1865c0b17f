"""One of the time points of `anymri follow-up`: scans, or the folder of a result, which stands for its scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.errors import CohortError, RunError
from anymri.modalities import MODALITIES

if TYPE_CHECKING:
    from anymri.prepare.raw import RawStudy

_GIVE_SCANS = "Give the folder of the scans instead."


@dataclass(frozen=True)
class TimePoint:
    """Scans of one time point.

    weights  files of the weights of a result with their hashes; empty for scans
    """

    raw: RawStudy
    weights: tuple[tuple[Path, str], ...] = ()


def read_time_point(place: Path) -> TimePoint:
    """Read the scans at a place, or those from which a result was made.

    A result stands for the scans that it used and its weights: they are segmented again, because the comparison needs
    the probabilities, and often fewer modalities. Raises `RunError` if scans of a result have moved or changed.
    """
    from anymri.prepare.raw import read_raw

    if not (place / "provenance.json").is_file():
        if (place / "summary.csv").is_file():
            raise CohortError(f"{place} is a segmented cohort.", "Give the folder of one of its cases.")
        return TimePoint(read_raw(place))
    from anymri.analysis.reading import read_provenance

    record = read_provenance(place)
    if record.get("command") != "segment":
        raise RunError(f"{place} is not a result of `anymri segment`.", "Give such a result, or the folder of scans.")
    inputs: Mapping[str, Mapping[str, Any]] = record.get("inputs", {})
    used = [role for role in inputs if role in MODALITIES]
    files = {role: Path(str(inputs[role].get("file", ""))) for role in used}
    for role, file in files.items():
        if not file.exists():
            raise RunError(f"{place} was made from {file} ({role}), which does not exist here.", _GIVE_SCANS)
    mask = inputs.get("brain_mask")
    raw = _read(files, None if mask is None else Path(str(mask.get("file", ""))))
    for role in used:
        if role not in raw.inputs or raw.inputs[role]["sha256"] != inputs[role].get("sha256"):
            raise RunError(f"{files[role]} ({role}) has changed since {place} was made from it.", _GIVE_SCANS)
    weights = [each for role, each in inputs.items() if role.startswith("weights")]
    raw = raw.only(modality for modality in record["configuration"].get("modalities", used) if modality in raw.scans)
    name = place.resolve().name
    return TimePoint(
        replace(raw, name=name, case=replace(raw.case, name=name, patient="")),
        tuple((Path(str(each.get("file", ""))), str(each.get("sha256", ""))) for each in weights),
    )


def weights_of(points: tuple[TimePoint, TimePoint], named: list[Path] | None) -> list[Path] | None:
    """Return the weights to use: those that the user names, or those of the results; None for the best installed.

    Raises `RunError` for two results of different weights, and for weights that are not where they were.
    """
    recorded = [point.weights for point in points if point.weights]
    if named or not recorded:
        return named or None
    if len({tuple(sha for _, sha in each) for each in recorded}) > 1:
        raise RunError(
            "The two results were made by different weights, so that their difference is not a change of the tumour.",
            "Name the weights for both with --weights.",
        )
    from anymri.files import sha256

    for file, expected in recorded[0]:
        if not file.is_file() or sha256(file) != expected:
            raise RunError(f"The weights {file} of the results are not there any more.", "Name them with --weights.")
    return [file for file, _ in recorded[0]]


def _read(files: Mapping[str, Path], mask: Path | None) -> RawStudy:
    from anymri.prepare.raw import read_raw

    places = set(files.values())
    if len(places) == 1 and len(files) > 1:  # a folder or archive with several series
        return read_raw(places.pop(), brain_mask=mask)
    return read_raw(None, files, mask)
