"""The folder of an evaluation, filled case by case, so that a second run continues where the first one stopped.

settings.json     what is evaluated, and how; an evaluation with other settings is refused
cases/            one file per finished case, with its rows and the hashes of its files
metrics.csv       all rows, written at the end; metrics.parquet holds the same if pyarrow is installed
reliability.csv   bins of probability, if a calibration error was chosen
provenance.json   settings, versions and hashes of all files
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anymri.errors import RunError
from anymri.evaluation.rows import COLUMNS, CURVE_COLUMNS, CaseMetrics, Row
from anymri.files import output_folder, replacing, sha256, write_json
from anymri.progress import Progress
from anymri.provenance import provenance

# Settings whose names in `settings.json` are not those of the options.
_OPTIONS = {"weights_sha256": "weights", "conventions": "metrics"}


def evaluate_all(
    output: Path,
    settings: Mapping[str, Any],
    cases: Mapping[str, Mapping[str, Path]],
    evaluate: Callable[[str], CaseMetrics],
    progress: Progress,
) -> list[Row]:
    """Evaluate the cases that the folder does not hold yet, write the tables and return the rows of `metrics.csv`.

    settings  settings of this evaluation, for JSON; a folder keeps the settings that it was created with
    cases     name -> role of a file -> file; a case whose files have changed is evaluated again
    evaluate  name -> rows of the case
    """
    _claim(output, settings)
    every = CaseMetrics()
    for done, (name, files) in enumerate(cases.items()):
        progress(name, done, len(cases))
        kept = output / "cases" / f"{name}.json"
        fingerprint = {role: sha256(path) for role, path in files.items()}
        found = _kept_rows(kept, fingerprint)
        if found is None:
            found = evaluate(name)
            write_json(kept, {"files": fingerprint, **asdict(found)})
        every.rows += found.rows
        every.curves += found.curves
    progress("", len(cases), len(cases))
    if every.curves:
        _write_csv(output / "reliability.csv", every.curves, CURVE_COLUMNS)
    _write_csv(output / "metrics.csv", every.rows, COLUMNS)
    _write_parquet(output / "metrics.parquet", every.rows)
    return every.rows


def write_provenance(
    output: Path,
    command: str,
    record: Mapping[str, Any],
    inputs: Mapping[str, Path],
    cases: Mapping[str, Mapping[str, Path]],
    device: str,
) -> None:
    """Write `provenance.json` with the hashes of `inputs` and of the files of every case."""
    files = dict(inputs) | {f"{name}: {role}": path for name, each in cases.items() for role, path in each.items()}
    write_json(output / "provenance.json", provenance(command, record, files, device))


def _kept_rows(file: Path, fingerprint: Mapping[str, str]) -> CaseMetrics | None:
    """Return the rows of an earlier run, if the files of the case are still the same."""
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    return CaseMetrics(kept["rows"], kept["curves"]) if kept["files"] == fingerprint else None


def _write_csv(file: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write rows, floats with all their digits and missing values as nothing."""
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(file: Path, rows: Sequence[Row]) -> None:
    """Write the rows if pyarrow is installed; otherwise remove the file of an earlier run, which may differ."""
    if find_spec("pyarrow") is None:
        file.unlink(missing_ok=True)
        return
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    schema = arrow.schema([(column, "float64" if column == "value" else "string") for column in COLUMNS])
    with replacing(file) as temporary:
        parquet.write_table(arrow.Table.from_pylist(rows, schema), temporary)


def _claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Make `output` the folder of this evaluation; raise `RunError` if it holds something else."""
    record = output / "settings.json"
    if record.exists():
        kept = json.loads(record.read_text())
        differing = sorted(key for key in {*kept, *settings} if kept.get(key) != settings.get(key))
        if differing:
            names = ", ".join(_OPTIONS.get(key, key) for key in differing)
            raise RunError(
                f"{output} holds an evaluation with other {names.replace('_', ' ')}.",
                "Choose another folder with -o, or delete this one.",
            )
        return
    if output.exists() and any(output.iterdir()):
        raise RunError(f"{output} is not empty and is not an evaluation.", "Choose a new or empty folder with -o.")
    write_json(output_folder(output) / "settings.json", dict(settings))
