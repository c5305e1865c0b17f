"""Label maps that a person compares, and those that a person has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymri.errors import ConfigurationError
from anymri.studio.entries import Entry
from anymri.studio.jobs import Job
from anymri.studio.studio import NotFoundError, Studio, prepared
from anymri.text import visible

_LONGEST_AUTHOR = 200


def compare(studio: Studio, entry: Entry, first: Any, second: Any) -> Job:
    """Begin to compare two label maps.

    first, second  `{"label": name}`, or `{"weights": name, "subset": name}`
    """
    one, other = _mask(entry, first), _mask(entry, second)
    name = f"compared-{hashlib.sha256(f'{one} {other}'.encode()).hexdigest()[:16]}"

    def then(found: dict[str, Any]) -> Any:
        figures = {key: found[key] for key in ("dice", "volumes_ml")}
        return {"disagreement_url": entry.url(found["path"], f"{name}.nii"), **figures}

    arguments = {"inputs": prepared(entry)["inputs"], "first": one, "second": other, "name": name}
    return studio.submit(entry, "compare", arguments, then)


def correct(studio: Studio, entry: Entry, voxels: Path, author: str, based_on: str) -> Job:
    """Begin to save a corrected label map.

    voxels    file of uint8 classes on the grid of the case, x fastest; it is removed
    based_on  JSON of the label map that was changed, as in `compare`, or null

    Raises `ConfigurationError` without an author.
    """
    author = visible(" ".join(author.split()))[:_LONGEST_AUTHOR]
    if not author:
        raise ConfigurationError("The correction has no author.", "Enter your name: it is saved with the label map.")
    reference = _parsed(based_on)
    base = None if reference is None else _mask(entry, reference)
    entry.versions += 1
    name = f"corrected-{entry.versions}"

    def then(found: dict[str, Any]) -> Any:
        voxels.unlink(missing_ok=True)
        entry.masks["label", "corrected"] = found["path"]
        url, volumes = entry.url(found["path"], f"{name}.nii"), found["volumes_ml"]
        label = {"name": "corrected", "title": f"Corrected by {author}", "url": url, "volumes_ml": volumes}
        made = prepared(entry)
        made["labels"] = [each for each in made["labels"] if each["name"] != "corrected"] + [label]
        figures = {key: found[key] for key in ("changed_voxels", "by_class")}
        return {"label": label, **figures, "file": str(found["file"])}

    arguments = {
        "inputs": prepared(entry)["inputs"],
        "voxels": voxels,
        "base": base,
        "based_on": reference or {},
        "weights": studio.weights.get(str((reference or {}).get("weights"))),
        "author": author,
        "folder": studio.corrections / entry.name,
        "name": name,
    }
    return studio.submit(entry, "correct", arguments, then)


def _mask(entry: Entry, reference: Any) -> Path:
    """Return the file of a label map on the grid of the case; raise `NotFoundError` if there is none."""
    prepared(entry)
    found = None
    if isinstance(reference, Mapping):
        by_weights = ("weights", str(reference.get("weights")), str(reference.get("subset")))
        found = entry.masks.get(("label", str(reference["label"])) if "label" in reference else by_weights)
    if found is None:
        raise NotFoundError("This label map does not exist.", "Segment the case first, or choose another one.")
    return found


def _parsed(reference: str) -> Any:
    try:
        return json.loads(reference or "null")
    except (ValueError, RecursionError) as error:
        raise ConfigurationError("The correction does not say what it is based on.", "Load the page again.") from error
