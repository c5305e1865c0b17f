"""The folder of an evaluation, filled case by case, so that a second run goes on where the first one stopped.

settings.json    what is scored, and how; another evaluation is refused
cases/           one file a finished case, with its rows and the hashes of its files
metrics.csv       all rows, written at the end; metrics.parquet holds the same if pyarrow is installed
reliability.csv  bins of probability, if a calibration error was asked for
provenance.json    settings, versions and hashes of all files
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from anymri.errors import RunError
from anymri.evaluation.rows import COLUMNS, CURVE_COLUMNS, CaseMetrics, Row
from anymri.files import output_folder, replacing, sha256, write_json
from anymri.provenance import provenance

Progress = Callable[[str, int, int], None]


def silent(name: str, done: int, total: int) -> None:
    """Shows nothing."""


def evaluate_all(
    output: Path,
    settings: Mapping[str, Any],
    cases: Mapping[str, Mapping[str, Path]],
    score: Callable[[str], CaseMetrics],
    progress: Progress,
) -> pd.DataFrame:
    """Scores the cases that the folder does not hold yet and writes the tables; returns the rows of `metrics.csv`.

    settings  of this evaluation, for JSON: the folder keeps to them
    cases     name -> what a file is -> file; a case whose files have changed is scored again
    score     name -> its rows
    """
    _claim(output, settings)
    every = CaseMetrics()
    for done, (name, files) in enumerate(cases.items()):
        progress(name, done, len(cases))
        kept = output / "cases" / f"{name}.json"
        fingerprint = {what: sha256(path) for what, path in files.items()}
        found = _kept_scores(kept, fingerprint)
        if found is None:
            found = score(name)
            write_json(kept, {"files": fingerprint, **asdict(found)})
        every.rows += found.rows
        every.curves += found.curves
    progress("", len(cases), len(cases))
    if every.curves:
        _write_csv(output / "reliability.csv", every.curves, CURVE_COLUMNS)
    scores = _write_csv(output / "metrics.csv", every.rows, COLUMNS)
    _write_parquet(output / "metrics.parquet", scores)
    return scores


def write_provenance(
    output: Path,
    record: dict[str, Any],
    inputs: Mapping[str, Path],
    cases: Mapping[str, Mapping[str, Path]],
    device: str,
) -> None:
    """Writes `provenance.json` with the hashes of `inputs` and of every case's files."""
    files = dict(inputs) | {f"{name}: {what}": path for name, each in cases.items() for what, path in each.items()}
    write_json(output / "provenance.json", provenance("evaluate", record, files, device))


def _kept_scores(file: Path, fingerprint: Mapping[str, str]) -> CaseMetrics | None:
    """What an earlier run kept, if the case's files are still the same."""
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    return CaseMetrics(kept["rows"], kept["curves"]) if kept["files"] == fingerprint else None


def _write_csv(file: Path, rows: Sequence[Row], columns: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=columns)
    with replacing(file) as temporary:
        table.to_csv(temporary, index=False)
    return table


def _write_parquet(file: Path, table: pd.DataFrame) -> None:
    """Only with pyarrow, which is large and no dependency; without it none is left that an earlier run wrote."""
    if find_spec("pyarrow") is None:
        file.unlink(missing_ok=True)
        return
    with replacing(file) as temporary:
        table.to_parquet(temporary, engine="pyarrow", index=False)


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
