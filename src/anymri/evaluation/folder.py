"""The folder of an evaluation, filled case by case, so that a second run goes on where the first one stopped.

settings.json   what is scored, and how; another evaluation is refused
cases/          one file a finished case, with its rows and the hashes of its files
scores.csv      all rows, written at the end
manifest.json   settings, versions and hashes of all files
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from anymri.errors import RunError
from anymri.evaluation.scores import COLUMNS, Row
from anymri.files import output_folder, replacing, sha256, write_json
from anymri.manifest import manifest

Progress = Callable[[str, int, int], None]


def silent(name: str, done: int, total: int) -> None:
    """Shows nothing."""


def score_all(
    output: Path,
    settings: Mapping[str, Any],
    cases: Mapping[str, Mapping[str, Path]],
    score: Callable[[str], list[Row]],
    progress: Progress,
) -> pd.DataFrame:
    """Scores the cases that the folder does not hold yet and writes `scores.csv`; returns all rows.

    settings  of this evaluation, for JSON: the folder keeps to them
    cases     name -> what a file is -> file; a case whose files have changed is scored again
    score     name -> rows
    """
    _claim(output, settings)
    rows: list[Row] = []
    for done, (name, files) in enumerate(cases.items()):
        progress(name, done, len(cases))
        kept = output / "cases" / f"{name}.json"
        fingerprint = {what: sha256(path) for what, path in files.items()}
        found = _kept_rows(kept, fingerprint)
        if found is None:
            found = score(name)
            write_json(kept, {"files": fingerprint, "rows": found})
        rows += found
    progress("", len(cases), len(cases))
    scores = pd.DataFrame(rows, columns=COLUMNS)
    with replacing(output / "scores.csv") as temporary:
        scores.to_csv(temporary, index=False)
    return scores


def write_manifest(
    output: Path,
    record: dict[str, Any],
    inputs: Mapping[str, Path],
    cases: Mapping[str, Mapping[str, Path]],
    device: str,
) -> None:
    """Writes `manifest.json` with the hashes of `inputs` and of every case's files."""
    files = dict(inputs) | {f"{name}: {what}": path for name, each in cases.items() for what, path in each.items()}
    write_json(output / "manifest.json", manifest("evaluate", record, files, device))


def _kept_rows(file: Path, fingerprint: Mapping[str, str]) -> list[Row] | None:
    """Rows kept by an earlier run, if the case's files are still the same."""
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    rows: list[Row] | None = kept["rows"] if kept["files"] == fingerprint else None
    return rows


def _claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Makes `output` the folder of this evaluation, or refuses if it holds another one."""
    record = output / "settings.json"
    if record.exists():
        kept = json.loads(record.read_text())
        differing = sorted(key for key in {*kept, *settings} if kept.get(key) != settings.get(key))
        if differing:
            names = ", ".join({"weights_sha256": "weights", "conventions": "metrics"}.get(d, d) for d in differing)
            raise RunError(
                f"{output} holds an evaluation with other {names.replace('_', ' ')}.",
                "Choose another folder with -o, or delete this one.",
            )
        return
    if output.exists() and any(output.iterdir()):
        raise RunError(f"{output} is not empty and holds no evaluation.", "Choose a new or empty folder with -o.")
    write_json(output_folder(output) / "settings.json", dict(settings))
