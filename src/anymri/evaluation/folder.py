"""The folder of an evaluation, filled case by case, so that a second run continues where the first one stopped.

settings.json     what is evaluated, and how; an evaluation with other settings is refused
cases/            one file per finished case: its rows, the hashes of settings and files, and its checksum
metrics.csv       all rows, written at the end; metrics.parquet holds the same if pyarrow is installed
reliability.csv   bins of probability, if a calibration error was chosen
provenance.json   settings, versions and hashes of all files read, and of the tables written
"""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anymri.errors import AnymriWarning, RunError
from anymri.evaluation.rows import COLUMNS, CURVE_COLUMNS, CaseMetrics, Row
from anymri.files import digest, is_unused, locked, read_text, refuse_overwriting, replacing, sha256, write_json
from anymri.progress import Progress
from anymri.provenance import Inputs, hashed, provenance

FILES = ("settings.json", "metrics.csv", "metrics.parquet", "reliability.csv", "provenance.json")
# Settings whose names in `settings.json` are not those of the options.
_OPTIONS = {"weights_sha256": "weights", "conventions": "metrics"}


@dataclass(frozen=True)
class Plan:
    """Plan of an evaluation: its cases, settings and inputs.

    command   evaluate or score
    settings  settings of this evaluation, for JSON; a folder keeps the settings that it was created with
    facts     further values for the provenance, which may differ when a folder is continued
    inputs    files that all cases share, with their hashes
    cases     name -> role of a file -> file; a case whose files have changed is evaluated again
    device    where it is computed
    """

    command: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    inputs: Inputs
    cases: Mapping[str, Mapping[str, Path]]
    device: str


def refuse_overwriting_evaluations(output: Path, evaluations: Sequence[Path]) -> None:
    """Raise `OutputError` if a file to write is one of those of an evaluation."""
    refuse_overwriting([output], [folder / name for folder in evaluations for name in FILES])


def evaluate_all(output: Path, plan: Plan, evaluate: Callable[[str], CaseMetrics], progress: Progress) -> list[Row]:
    """Evaluate the cases that the folder does not hold yet, write all files and return the rows of `metrics.csv`.

    evaluate  name -> rows of the case

    Raises `RunError` if the folder holds something else, `OutputError` if another command writes to it.
    """
    with locked(output, "cases"):
        _claim(output, plan.settings)
        every, inputs = CaseMetrics(), dict(plan.inputs)
        for done, (name, files) in enumerate(plan.cases.items()):
            progress(name, done, len(plan.cases))
            kept, found_files = output / "cases" / f"{name}.json", hashed(files)
            origin = {
                "settings": digest(plan.settings),
                "files": {role: each["sha256"] for role, each in found_files.items()},
            }
            found = _kept_rows(kept, origin)
            if found is None:
                found = evaluate(name)
                content = origin | asdict(found)
                write_json(kept, content | {"sha256": digest(content)})
            every.rows += found.rows
            every.curves += found.curves
            inputs |= {f"{name}: {role}": each for role, each in found_files.items()}
        progress("", len(plan.cases), len(plan.cases))
        record = output / "provenance.json"
        record.unlink(missing_ok=True)  # it is written last, so that it never describes earlier tables
        tables = {"metrics.csv": (every.rows, COLUMNS), "reliability.csv": (every.curves, CURVE_COLUMNS)}
        outputs = [name for name, (rows, _) in tables.items() if rows or name == "metrics.csv"]
        for name in outputs:
            _write_csv(output / name, *tables[name])
        _write_parquet(output / "metrics.parquet", every.rows)
        written = provenance(plan.command, {**plan.settings, **plan.facts}, inputs, plan.device)
        write_json(record, written | {"outputs": {name: sha256(output / name) for name in outputs}})
    return every.rows


def _kept_rows(file: Path, origin: Mapping[str, Any]) -> CaseMetrics | None:
    """Return the rows of an earlier run, if they are whole, and settings and files of the case are still the same."""
    kept = _read_json(file)
    if not isinstance(kept, dict) or kept.pop("sha256", None) != digest(kept):
        return None
    return CaseMetrics(kept["rows"], kept["curves"]) if origin.items() <= kept.items() else None


def _read_json(file: Path) -> Any:
    """Return the value in a JSON file; None if the file does not exist, is damaged or is not a regular file."""
    try:
        return json.loads(read_text(file)) if file.exists() else None
    except (ValueError, RecursionError):
        return None


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
    record, kept = output / "settings.json", _read_json(output / "settings.json")
    if isinstance(kept, dict):
        differing = sorted(key for key in {*kept, *settings} if kept.get(key) != settings.get(key))
        if differing:
            names = ", ".join(_OPTIONS.get(key, key) for key in differing)
            raise RunError(
                f"{output} holds an evaluation with other settings: {names.replace('_', ' ')}.",
                "Choose another folder with -o, or delete this one.",
            )
        return
    if record.exists() and (output / "cases").is_dir():
        warnings.warn(
            f"{record} is damaged and is written again; finished cases are kept if they have the same settings.",
            AnymriWarning,
            stacklevel=2,
        )
    elif not is_unused(output):
        raise RunError(f"{output} is not empty and is not an evaluation.", "Choose a new or empty folder with -o.")
    write_json(record, dict(settings))
