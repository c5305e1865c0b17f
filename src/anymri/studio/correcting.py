"""A label map that a person has changed, saved with who changed how many voxels of what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anymri.data.image import write_like
from anymri.errors import LabelError
from anymri.files import locked, write_json
from anymri.prepare.preparation import Preparation
from anymri.provenance import hashed, provenance, without_paths
from anymri.regions import CLASSES
from anymri.studio.maps import Classes, read_labels, volumes_ml, write_labels
from anymri.studio.preparing import on_scan
from anymri.studio.source import CORRECTED, CaseSource

RECORD = "corrected.json"


def save(
    source: CaseSource,
    preparation: Preparation,
    voxels: Path,
    base: Path | None,
    based_on: Mapping[str, Any],
    weights: Path | None,
    author: str,
    folder: Path,
    name: str,
) -> dict[str, Any]:
    """Save a corrected label map in the geometry of the reference scan, and return it as the page shows it.

    voxels    file of uint8 classes on the grid of the study, x fastest
    base      label map that was changed, on the grid of the study; None for an empty one
    based_on  what that label map is, for the record
    weights   file of the weights that made it
    author    who changed it
    folder    folder of the corrections of the case; earlier versions stay there under a number
    name      stem of the file for the page

    Raises `LabelError` for voxels that are not a label map of the case, `OutputError` if the folder cannot be written.
    """
    shape = next(iter(preparation.study.images.values())).shape
    classes = _read(voxels, shape)
    before = np.zeros(shape, dtype=np.uint8) if base is None else read_labels(base, shape)
    changed, by_class = _changes(before, classes)
    on_file, reference = on_scan(classes, preparation)
    record = {
        "author": author,
        "case": source.name,
        "based_on": {**based_on, "sha256": _hash(before)},
        "sha256": _hash(classes),
        "changed_voxels": changed,
        "by_class": by_class,
        "label_values": {name: value for value, name in enumerate(CLASSES)},
    }
    inputs = preparation.inputs | ({} if weights is None else hashed({"weights": weights}))
    with locked(folder):
        _keep_earlier(folder)
        write_like(folder / CORRECTED, on_file, reference)
        with without_paths(source.is_private):
            write_json(folder / RECORD, provenance("studio", record, inputs, "cpu"))
    path = source.maps / f"{name}.nii.gz"
    write_labels(path, classes, preparation.study.affine)
    return {
        "file": folder / CORRECTED,
        "path": path,
        "volumes_ml": volumes_ml(classes, preparation.study.affine),
        "changed_voxels": changed,
        "by_class": by_class,
    }


def _read(file: Path, shape: tuple[int, ...]) -> Classes:
    values = np.fromfile(file, dtype=np.uint8)
    if values.size != int(np.prod(shape)) or values.max(initial=0) >= len(CLASSES):
        raise LabelError(
            f"The label map does not fit: it has {values.size} voxels and values up to {values.max(initial=0)}.",
            "Load the page again and repeat the correction.",
        )
    return values.reshape(shape, order="F")


def _changes(before: Classes, after: Classes) -> tuple[int, dict[str, dict[str, int]]]:
    """Return the number of voxels that differ, and class -> how many voxels it got and lost."""
    differ = before != after
    old, new = (np.bincount(each[differ], minlength=len(CLASSES)).tolist() for each in (before, after))
    found = {name: {"added": new[value], "removed": old[value]} for value, name in enumerate(CLASSES) if value}
    return int(differ.sum()), {name: counts for name, counts in found.items() if any(counts.values())}


def _keep_earlier(folder: Path) -> None:
    """Give the earlier version the next number."""
    if not (folder / CORRECTED).exists():
        return
    number = 1
    while any((folder / f"corrected-{number}{suffix}").exists() for suffix in (".nii.gz", ".json")):
        number += 1
    (folder / CORRECTED).rename(folder / f"corrected-{number}.nii.gz")
    if (folder / RECORD).exists():
        (folder / RECORD).rename(folder / f"corrected-{number}.json")


def _hash(classes: Classes) -> str:
    """Return the SHA-256 of the voxels, x fastest."""
    return hashlib.sha256(classes.tobytes(order="F")).hexdigest()
