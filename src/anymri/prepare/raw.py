"""A raw study: the scans of one patient as they were found, each in the geometry of its file or series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from anymri.data.case import Case
from anymri.data.image import Image, image_stem, read_image, read_scan
from anymri.data.layouts import by_modality, case_from_files
from anymri.data.layouts.found import check_one_role
from anymri.errors import CohortError, ModalityError
from anymri.files import digest, sha256
from anymri.modalities import REFERENCE_ORDER, Subset
from anymri.prepare.candidates import Candidate, choose
from anymri.prepare.searching import Found, as_given, in_place, name_of_scans, unpacked
from anymri.provenance import Inputs, hashed

if TYPE_CHECKING:
    from anymri.prepare.dicom import Series
    from anymri.prepare.sequences import Recognition

_NONE: Mapping[str, Path] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class RawScan:
    """A scan as it was found.

    image        volume in the geometry of its file or series
    files        files that it was read from
    series       DICOM series; None for an image file
    recognition  evidence for its modality; None if a file name or an option gave the modality
    """

    image: Image
    files: tuple[Path, ...]
    series: Series | None = None
    recognition: Recognition | None = None


@dataclass(frozen=True, eq=False)
class RawStudy:
    """The scans of one patient at one time point, before any preparation.

    name        name of the case and of its results
    scans       modality -> scan, in the order of `MODALITIES`, for the modalities that exist
    brain_mask  mask of the brain that the user gave
    left_out    one sentence for each scan that was found and is not used
    case        the files; of a DICOM series, its first one
    inputs      role -> file and hash, as in `Case.files`; a DICOM series has one hash, of the hashes of its files
    """

    name: str
    scans: Mapping[str, RawScan]
    brain_mask: Image | None = None
    left_out: tuple[str, ...] = ()
    case: Case = field(kw_only=True)
    inputs: Inputs = field(kw_only=True)

    @property
    def raw(self) -> RawStudy:
        """The study itself, as a `Preparation` has the study that it was made from."""
        return self

    @property
    def subset(self) -> Subset:
        """The modalities that exist."""
        return Subset.of(self.scans)

    @property
    def reference(self) -> str:
        """Modality in whose geometry results are given by default: the first of T1c, FLAIR, T2 and T1 that exists."""
        return next(modality for modality in REFERENCE_ORDER if modality in self.scans)

    def only(self, modalities: Iterable[str]) -> RawStudy:
        """Return the study with some of its scans."""
        scans = {modality: self.scans[modality] for modality in Subset.of(modalities)}
        case = replace(self.case, scans={modality: self.case.scans[modality] for modality in scans})
        dropped = {role for m in self.scans if m not in scans for role in (m, f"{m} voxels")}
        inputs = {role: each for role, each in self.inputs.items() if role not in dropped}
        return replace(self, scans=scans, case=case, inputs=inputs)


def read_raw(
    source: Case | Path | str | None = None,
    scans: Mapping[str, Path] = _NONE,
    brain_mask: Path | None = None,
    dicom_study: int | None = None,
) -> RawStudy:
    """Read the scans of one patient, and find out which modality each one is.

    source       a folder, image file, DICOM file or zip archive with images and DICOM series in any mix; or a case
    scans        any alias of a modality -> image file, DICOM folder, DICOM file or zip archive; these overrule the
                 scans of `source`
    brain_mask   image file with a mask of the brain, in the position of the scan whose grid it has
    dicom_study  number of the DICOM study to use, from 1, if `source` holds several

    Without `source`, the case has the name of the folder that holds the scans.

    The names of image files are understood as those of cohorts. DICOM series are recognised by their headers; image
    files without a telling name, by their intensities, if nothing else gives a modality. Raises `ModalityError` if the
    modality of a scan is not sure or if two scans are of one modality, `CohortError` for several cases or patients,
    and `ImageError` for a scan that cannot be used.
    """
    if isinstance(source, Case):
        return _of_case(source, brain_mask)
    given = by_modality(scans)
    if source is None:
        if not given:
            raise ModalityError(
                "No scan was given.", "Give a case folder, or at least one of --t1, --t1c, --t2 and --flair."
            )
        name = name_of_scans(given.values())
        if all(image_stem(path) is not None for path in given.values()):
            return _of_case(case_from_files(given, brain_mask=brain_mask, name=name), None)
        return _of_found(Found(name), given, brain_mask, dicom_study)
    place = Path(source)
    with unpacked(place) as folder:
        found = in_place(place, folder, dicom_study)
        study = _of_found(found, given, brain_mask, dicom_study)
        return study if folder == place else _in_archive(study, place, folder)


def _of_case(case: Case, brain_mask: Path | None) -> RawStudy:
    """Return the raw study of a case whose scans are image files."""
    if brain_mask is not None:
        case = replace(case, brain_mask=brain_mask)
    scans = {modality: RawScan(read_scan(path), (path,)) for modality, path in case.scans.items()}
    mask = None if case.brain_mask is None else read_image(case.brain_mask)
    return RawStudy(case.name, scans, mask, case=case, inputs=hashed(case.files()))


def _of_found(found: Found, given: Mapping[str, Path], brain_mask: Path | None, dicom_study: int | None) -> RawStudy:
    """Return the raw study of what was found, in which the scans that were named overrule the others."""
    named = {modality: as_given(modality, path, dicom_study) for modality, path in given.items()}
    taken = {_identity(each.series) for each in named.values() if each.series is not None}
    others = [each for each in found.candidates if each.path not in given.values()]
    chosen = choose([each for each in others if each.series is None or _identity(each.series) not in taken], named)
    scans = {modality: _scan(candidate) for modality, candidate in chosen.scans.items()}
    if not scans:
        unused = " ".join((*found.left_out, *chosen.left_out))
        raise CohortError(
            f"{found.name} does not have a scan that is T1, T1c, T2 or FLAIR: {unused}",
            "Name the scans to use by --t1, --t1c, --t2 and --flair.",
        )
    series = [scan.series for scan in scans.values() if scan.series is not None]
    if series:
        from anymri.prepare.dicom import check_one_patient

        check_one_patient(series)
        _check_one_modality(scans)
    mask = brain_mask or found.brain_mask
    case = Case(found.name, {m: scan.image.path for m, scan in scans.items()}, found.label, mask)
    files = {role: path for role, path in case.files().items() if role not in scans or scans[role].series is None}
    check_one_role(files)
    inputs = hashed(files) | {m: _hash(scan.files) for m, scan in scans.items() if scan.series is not None}
    return RawStudy(
        found.name,
        {modality: scans[modality] for modality in case.scans},
        None if mask is None else read_image(mask),
        (*found.left_out, *chosen.left_out),
        case=case,
        inputs=inputs,
    )


def _identity(series: Series) -> tuple[object, ...]:
    """Return what two readings of one series have in common, also from a folder and from an archive."""
    return series.series_uid, series.headers[0].get("SOPInstanceUID"), series.frames


def _check_one_modality(scans: Mapping[str, RawScan]) -> None:
    """Raise `CohortError` if one DICOM series is the scan of two modalities."""
    modalities: dict[tuple[object, ...], str] = {}
    for modality, scan in scans.items():
        if scan.series is not None:
            first = modalities.setdefault(_identity(scan.series), modality)
            if first != modality:
                raise CohortError(
                    f"One DICOM series is given as {first} and as {modality}: {scan.series.title}.",
                    "Give a different scan for each, or only one of the two.",
                )


def _scan(candidate: Candidate) -> RawScan:
    image = candidate.image or read_scan(candidate.path)
    files = (candidate.path,) if candidate.series is None else candidate.series.files
    return RawScan(image, files, candidate.series, candidate.recognition)


def _in_archive(study: RawStudy, archive: Path, folder: Path) -> RawStudy:
    """Return a study with places in the archive instead of those of its unpacked images; its hash is that of each."""

    def moved(path: Path) -> Path:
        return archive / path.relative_to(folder) if folder in path.parents else path

    def at(scan: RawScan) -> RawScan:
        return replace(scan, image=replace(scan.image, path=moved(scan.image.path)), files=(archive,))

    inside = {role for role, each in study.inputs.items() if folder in Path(each["file"]).parents}
    inside |= {modality for modality, scan in study.scans.items() if scan.series is not None}
    case = study.case
    mask = study.brain_mask
    return replace(
        study,
        scans={m: at(scan) if m in inside else scan for m, scan in study.scans.items()},
        brain_mask=None if mask is None else replace(mask, path=moved(mask.path)),
        case=replace(
            case,
            scans={m: moved(path) for m, path in case.scans.items()},
            label=None if case.label is None else moved(case.label),
            brain_mask=None if case.brain_mask is None else moved(case.brain_mask),
        ),
        inputs={
            role: {"file": str(archive), "sha256": sha256(archive)} if role in inside else each
            for role, each in study.inputs.items()
        },
    )


def _hash(files: tuple[Path, ...]) -> dict[str, str]:
    """Return the folder of a series and one hash for all of its files."""
    if len(files) == 1:
        return hashed({"": files[0]})[""]
    return {"file": str(files[0].parent), "sha256": digest(sorted(sha256(file) for file in files))}
