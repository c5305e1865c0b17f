"""Label maps as derivatives of BIDS: one `dseg` per case with a sidecar, and one table of the labels.

    OUT/dataset_description.json, README.md, seg-tumour_dseg.tsv, participants.tsv
    OUT/sub-XX/[ses-YY/]anat/sub-XX[_ses-YY]_space-orig_seg-tumour_dseg.nii.gz and .json

Label maps come from results of `anymri segment`, or from a labelled cohort, whose values become those of anymri. They
lie on the grid of a scan of the case, which is what `space-orig` says; `segment --space prepared` gives
`space-prepared`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymri._version import __version__
from anymri.data.case import Case
from anymri.data.image import read_image, write_like
from anymri.data.layouts import find_cohort
from anymri.errors import CohortError, ConfigurationError
from anymri.export.formats import BIDS, check_folder
from anymri.export.viewers import LABELS
from anymri.files import new_folder, read_text, write_json, write_text
from anymri.prepare.preparation import PREPARED
from anymri.progress import Progress, silent
from anymri.regions import CLASSES, LabelScheme

VERSION = "1.10.0"
_SUFFIX = ".nii.gz"
_SEGMENTATION = "segmentation.nii.gz"
# Space of a scan as it was made, in the words of BIDS.
_ORIGINAL = "orig"
_BIDS_NAME = re.compile(r"sub-[a-zA-Z0-9]+(_ses-[a-zA-Z0-9]+)?")


@dataclass(frozen=True)
class LabelMap:
    """A label map and what it was made from.

    name    name of the case
    file    the label map
    about   keys of its sidecar
    scheme  meaning of its values; None for those of anymri
    """

    name: str
    file: Path
    about: Mapping[str, Any]
    scheme: LabelScheme | None = None


def export_bids(
    source: Path, output: Path, scheme: LabelScheme | None, progress: Progress = silent
) -> tuple[Path, tuple[str, ...]]:
    """Write label maps as derivatives of BIDS into a new folder; return it and the names of the cases.

    source  a result of `anymri segment`, the folder of a segmented cohort, or a labelled cohort
    scheme  meaning of the label values of a labelled cohort; results have those of anymri

    Raises `CohortError` without a label map, and for two cases whose names are the same in BIDS, which allows letters
    and digits only; `ConfigurationError` for a labelled cohort without a scheme.
    """
    check_folder(output, BIDS)
    maps = list(_results(source))
    if not maps:
        maps = _labels(source, scheme)
    names: dict[str, str] = {}
    for each in maps:
        name = bids_name(each.name)
        if name in names:
            raise CohortError(
                f"The cases {names[name]} and {each.name} are both {name} in BIDS.",
                "Rename one of them: names in BIDS have letters and digits only.",
            )
        names[name] = each.name
    with new_folder(output) as folder:
        for number, (name, each) in enumerate(zip(names, maps, strict=True)):
            progress(each.name, number, len(maps))
            _write(name, each, folder)
        write_json(folder / "dataset_description.json", _description(maps))
        write_text(folder / "README.md", _README)
        write_text(folder / "seg-tumour_dseg.tsv", _table())
        subjects = {name.partition("_")[0]: case for name, case in names.items()}
        rows = [f"{subject}\t{case}" for subject, case in subjects.items()]
        write_text(folder / "participants.tsv", "\n".join(["participant_id\tcase", *rows]) + "\n")
        about = {"case": {"Description": "Name of the case, or of the last time point, in the source"}}
        write_json(folder / "participants.json", about)
    progress("", len(maps), len(maps))
    return output, tuple(names.values())


def bids_name(case: str) -> str:
    """Return the name of a case as BIDS has it: sub-XX, with ses-YY where the name has a time point.

    >>> bids_name("BraTS-GLI-00012-001")
    'sub-BraTSGLI00012_ses-001'
    """
    if _BIDS_NAME.fullmatch(case):
        return case
    patient = Case(case, {"T1": Path()}).patient
    subject, session = (re.sub("[^a-zA-Z0-9]", "", text) for text in (patient, case.removeprefix(patient)))
    if not subject:
        raise CohortError(f"The case {case} has no letter or digit, of which names in BIDS are made.", "Rename it.")
    return f"sub-{subject}" + (f"_ses-{session}" if session else "")


def _results(source: Path) -> Iterator[LabelMap]:
    """Yield the label maps of a result or of the results in a folder."""
    for folder in [source, *(sorted(source.iterdir()) if source.is_dir() else ())]:
        file, record = folder / _SEGMENTATION, folder / "provenance.json"
        if not (file.is_file() and record.is_file()):
            continue
        try:
            content = json.loads(read_text(record))
            settings, inputs = content["configuration"], content["inputs"]
            is_prepared = settings.get("space") == PREPARED
            about = {
                "Description": "Brain tumour, segmented by anymri; for research, not for diagnosis.",
                "Manual": False,
                "SpatialReference": "The grid of anymri, 1 mm around the brain" if is_prepared else _ORIGINAL,
                "Modalities": settings["modalities"],
                "System": settings["weights"]["system"],
                "WeightsSha256": inputs["weights"]["sha256"],
                "anymri": content["versions"]["anymri"],
            }
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CohortError(
                f"{record} is not the provenance of a segmentation.", "Segment the case again, or move the folder away."
            ) from error
        yield LabelMap(folder.resolve().name, file, about)


def _labels(source: Path, scheme: LabelScheme | None) -> list[LabelMap]:
    """Return the label maps of a labelled cohort."""
    found = find_cohort(source).labelled(source)
    if scheme is None:
        raise ConfigurationError(
            f"The meaning of the label values in {source} is not known.",
            "Name the scheme of the data set with --label-scheme, for example brats2023.",
        )
    about = {"Description": "Brain tumour, label map of the data set.", "SpatialReference": _ORIGINAL}
    return [LabelMap(case.name, case.label, about, scheme) for case in found.cases if case.label is not None]


def _write(name: str, each: LabelMap, folder: Path) -> None:
    target = folder.joinpath(*name.split("_"), "anat")
    target.mkdir(parents=True, exist_ok=True)
    space = _ORIGINAL if each.about["SpatialReference"] == _ORIGINAL else PREPARED
    stem = f"{name}_space-{space}_seg-tumour_dseg"
    if each.scheme is None:
        shutil.copyfile(each.file, target / f"{stem}{_SUFFIX}")
    else:
        image = read_image(each.file)
        write_like(target / f"{stem}{_SUFFIX}", each.scheme.to_classes(image.array, str(each.file)), image)
    write_json(target / f"{stem}.json", dict(each.about))


def _description(maps: list[LabelMap]) -> dict[str, Any]:
    versions = sorted({str(each.about["anymri"]) for each in maps if "anymri" in each.about})
    return {
        "Name": "Brain tumour segmentations",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "anymri",
                "Version": ", ".join(versions) or __version__,
                "Description": "Brain-tumour segmentation from any subset of T1, T1c, T2 and FLAIR",
            }
        ],
    }


def _table() -> str:
    """Return the table of the labels, with colours of the figures."""
    rows = ["index\tname\tabbreviation\tcolor", "0\tBackground\tBG\t#000000"]
    for value, label in LABELS.items():
        colour = "".join(f"{each:02x}" for each in label.colour)
        rows.append(f"{value}\t{label.name}\t{CLASSES[value]}\t#{colour}")
    return "\n".join(rows) + "\n"


_README = """# Brain tumour segmentations

Label maps of brain tumours as derivatives of BIDS, written by anymri. The file seg-tumour_dseg.tsv names the values.
Segmentations of a network are for research, not for diagnosis; the file beside each label map says what made it.
"""
