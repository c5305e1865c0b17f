"""From files to a prepared case: the examination, the assignment of modalities by hand, and the preparation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from anymri.data.workers import Failure
from anymri.errors import ConfigurationError, ModalityError
from anymri.modalities import MODALITIES
from anymri.studio.entries import Entry
from anymri.studio.jobs import Job
from anymri.studio.studio import Studio
from anymri.studio.words import plain_words
from anymri.text import shown

_NOTHING = "No scan of the brain was found.", "Open the scans of one patient as NIfTI, NRRD, MetaImage or DICOM."


def examine(studio: Studio, entry: Entry) -> Job:
    """Begin to examine the scans of a case."""

    def then(found: dict[str, Any]) -> Any:
        files = {key: found[key] for key in ("place", "is_private", "label", "brain_mask")}
        entry.source, entry.examination, entry.error = replace(entry.of_case, **files), found, None
        if found["scans"]:
            entry.state = "proposed"
        else:
            what, fix = next(
                ((each["text"], each["advice"]) for each in found["findings"] if each["level"] == "error"), _NOTHING
            )
            entry.fail(Failure(plain_words(what, entry.of_case.plain), plain_words(fix) or _NOTHING[1]))
        return describe(entry)

    return studio.submit(entry, "examine", {}, then, (entry.id, "examine"))


def describe(entry: Entry) -> dict[str, Any]:
    """Return a case as the page gets it."""
    found, made = entry.examination or {}, entry.prepared or {}
    findings = [*found.get("findings", ()), *made.get("problems", ())]
    findings += [{"level": "note", "scan": "", "text": note, "advice": ""} for note in made.get("notes", ())]
    hidden = entry.of_case.plain
    return {
        "entry": entry.as_json(),
        "scans": [
            {"file": f"s{number}", **{key: value for key, value in scan.items() if key != "path"}}
            for number, scan in enumerate(found.get("scans", ()))
        ],
        "findings": [{key: plain_words(text, hidden) for key, text in each.items()} for each in findings],
        "plan": [plain_words(sentence, hidden) for sentence in made.get("steps") or found.get("plan", ())],
        "volumes": made.get("volumes", []),
        "labels": made.get("labels", []),
        "report": None,
    }


def assign(entry: Entry, assignment: Mapping[str, Any]) -> dict[str, Any]:
    """Take over which scan is which modality, and return the case; raise an `AnymriError` if that is not possible.

    assignment  identifier of a file -> modality, or None for a scan that is left out; others stay as they are
    """
    if entry.examination is None:
        raise ConfigurationError("The case was not examined yet.", "Examine it first.")
    scans = entry.examination["scans"]
    chosen = [assignment.get(f"s{number}", scan["modality"]) for number, scan in enumerate(scans)]
    by_modality: dict[str, dict[str, Any]] = {}
    for modality, scan in zip(chosen, scans, strict=True):
        if modality is None:
            continue
        if modality not in MODALITIES:
            raise ModalityError(f"{shown(modality, 40)} is not a modality.", f"Use {', '.join(MODALITIES)}.")
        if modality in by_modality:
            names = f"{by_modality[modality]['name']} and {scan['name']}"
            raise ModalityError(f"{names} are both {modality}.", "Choose one scan per modality.")
        by_modality[modality] = scan
    if not by_modality:
        raise ModalityError("No scan has a modality.", f"Choose at least one of {', '.join(MODALITIES)}.")
    for modality, scan in zip(chosen, scans, strict=True):
        if modality != scan["modality"]:
            scan |= {"modality": modality, "why": "by hand", "confidence": 1.0}
    entry.source = replace(entry.of_case, scans={m: scan["path"] for m, scan in by_modality.items()})
    return describe(entry)


def prepare(studio: Studio, entry: Entry) -> Job:
    """Begin to read and prepare a case."""
    studio.jobs.cancel_all(entry.id, ahead_only=True)
    entry.source = replace(entry.of_case, corrections=studio.corrections / entry.name)

    def then(made: dict[str, Any]) -> Any:
        entry.forget_maps()
        for volume in made["volumes"]:
            volume["url"] = entry.url(volume.pop("path"), f"{volume['name']}.nii")
        for label in made["labels"]:
            path = label.pop("path")
            entry.masks["label", label["name"]] = path
            label["url"] = entry.url(path, f"label-{label['name']}.nii")
        entry.prepared, entry.state, entry.error = made, "ready", None
        return describe(entry)

    return studio.submit(entry, "prepare", {"scheme": studio.scheme}, then, (entry.id, "prepare"))
