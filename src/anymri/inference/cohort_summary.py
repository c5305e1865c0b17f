"""Summary of a cohort: one row per case, made from the folders of the cases, so that any command can write it last."""

from __future__ import annotations

import csv
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anymri.files import replacing
from anymri.inference.cohort_folder import CASE, FAILURE, CohortFolder, read_record
from anymri.regions import CLASSES
from anymri.text import visible

REGIONS = ("WT", "TC", "ET", *CLASSES[1:3], CLASSES[4])
VOLUMES = tuple(f"{region}_ml" for region in REGIONS)
COLUMNS = ("case", "status", "modalities", *VOLUMES, "seconds", "warnings", "error")
NUMBERS = (*VOLUMES, "seconds")
Row = dict[str, Any]


def write_summary(folder: CohortFolder) -> list[Row]:
    """Write summary.csv, with pyarrow also summary.parquet, and failures.json; return the rows."""
    folder.write_failures()
    with folder.exclusive():
        rows = read_summary(folder.path)
        table = folder.path / "summary.csv"
        with replacing(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        _write_parquet(folder.path / "summary.parquet", rows)
    return rows


def read_summary(output: Path) -> list[Row]:
    """Return the rows of the cases with a result or a failure in the folder of a cohort, sorted by name.

    case        name
    status      segmented or failed
    modalities  those used, as "T1c+FLAIR"
    WT_ml, ...  volumes in mL; None where the weights do not have a class
    seconds     time to read, prepare and segment the case
    warnings    notes about the case, separated by " | "
    error       why the case failed, and what to do
    files       role -> file, as in the record of the case; not written to the tables
    """
    rows = {}
    for file in sorted(output.glob(f"*/{CASE}")):
        rows[file.parent.name] = _segmented(file.parent.name, read_record(file) or {})
    for file in sorted(output.glob(f"*/{FAILURE}")):
        record = read_record(file) or {}
        error = f"{record.get('what', '')} {record.get('fix', '')}"
        rows[file.parent.name] = _row(file.parent.name, "failed", error=visible(error), files=_mapping(record, "files"))
    return [rows[name] for name in sorted(rows)]


def _segmented(name: str, record: dict[str, Any]) -> Row:
    volumes, seconds = (
        {key: number for key, number in _mapping(record, part).items() if isinstance(number, int | float)}
        for part in ("volumes_ml", "seconds")
    )
    return _row(
        name,
        "segmented",
        modalities="+".join(map(str, record.get("modalities", ()))),
        seconds=round(sum(seconds.values()), 2),
        warnings=visible(" | ".join(map(str, record.get("notes", ())))),
        files=_mapping(record, "files"),
        **{f"{region}_ml": volumes.get(region) for region in REGIONS},
    )


def _mapping(record: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a mapping in a record; an empty one if it is damaged."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _row(name: str, status: str, **values: Any) -> Row:
    return dict.fromkeys(COLUMNS) | {"case": name, "status": status} | values


def _write_parquet(file: Path, rows: list[Row]) -> None:
    """Write the rows if pyarrow is installed; otherwise remove the file of an earlier command, which may differ."""
    if find_spec("pyarrow") is None:
        file.unlink(missing_ok=True)
        return
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    schema = arrow.schema([(column, "float64" if column in NUMBERS else "string") for column in COLUMNS])
    with replacing(file) as temporary:
        parquet.write_table(arrow.Table.from_pylist(rows, schema), temporary)
