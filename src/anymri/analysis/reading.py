"""Reading of what commands wrote, with checks: metrics, logs and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from anymri.errors import ConfigurationError, RunError
from anymri.evaluation.rows import COLUMNS, CURVE_COLUMNS, PLACES, SCORED
from anymri.modalities import SUBSETS

_LOG_COLUMNS = ("stage", "epoch", "step", "seconds", "learning_rate")
_VALIDATION_COLUMNS = ("stage", "epoch", "step", "region", "dice")
# The name of a case may be 001, so words are never read as numbers.
_WORDS = dict.fromkeys(("case", "subset", "region", "metric", "status", "stage"), "str")
_NUMBERS = ("value", "dice", "epoch", "step", "bin", "voxels", "confidence", "frequency")

_GIVE = "Give the folder of a finished `anymri evaluate` or `anymri score`."
_AGAIN = "Evaluate again into an empty folder."
_SUBSET_NAMES = [str(subset) for subset in SUBSETS]


@dataclass(frozen=True)
class StoredEvaluation:
    """Contents of an evaluation folder.

    provenance   content of `provenance.json`
    metrics      rows of `metrics.csv`
    reliability  rows of `reliability.csv`; None without a calibration error
    """

    folder: Path
    provenance: Mapping[str, Any]
    metrics: pd.DataFrame
    reliability: pd.DataFrame | None

    @cached_property
    def metric_names(self) -> set[str]:
        """Names of the metrics that were computed."""
        return set(self.metrics["metric"])

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Settings of the evaluation."""
        found: Mapping[str, Any] = self.provenance["configuration"]
        return found

    @property
    def inputs(self) -> Mapping[str, Mapping[str, str]]:
        """Name of an input -> `file` and `sha256`; files of cases are named `CASE: T1`, `CASE: label`, ..."""
        found: Mapping[str, Mapping[str, str]] = self.provenance.get("inputs", {})
        return found


def read_evaluations(folders: Sequence[Path]) -> dict[str, StoredEvaluation]:
    """Return evaluations by the names of their systems, and of their folders where these are the same.

    Raises `RunError` for a folder that is not a finished evaluation, `ConfigurationError` for one named twice.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigurationError("An evaluation is named twice.", "Name each folder once.")
    found = [read_evaluation(folder) for folder in folders]
    systems = [system_name(each.provenance) for each in found]
    names = [
        f"{name} ({each.folder.resolve().name})" if systems.count(name) > 1 else name
        for name, each in zip(systems, found, strict=True)
    ]
    if len(set(names)) < len(names):
        names = [f"{name} ({each.folder})" for name, each in zip(systems, found, strict=True)]
    return dict(zip(names, found, strict=True))


def read_evaluation(folder: Path) -> StoredEvaluation:
    """Return one evaluation; raise `RunError` with the reason if the folder is not a finished one."""
    _check_evaluation(folder)
    file = folder / "reliability.csv"
    reliability = _read_csv(file, CURVE_COLUMNS, _AGAIN) if file.is_file() else None
    return StoredEvaluation(folder, read_provenance(folder), read_metrics(folder), reliability)


def read_metrics(evaluation: Path) -> pd.DataFrame:
    """Return the rows of `metrics.csv` in an evaluation folder.

    Raises `RunError` without such a file, or if its rows would give wrong means: an unknown subset or region, a scored
    row without a value, or a case scored twice.
    """
    file = evaluation / "metrics.csv"
    metrics = _read_csv(file, COLUMNS, _GIVE)
    if metrics.empty:
        raise RunError(f"{file} has no rows.", "Evaluate again, with at least one case.")
    keys = list(COLUMNS[:4])
    for problem, rows in (
        ("a subset that is not one of the 15", ~metrics["subset"].isin(_SUBSET_NAMES)),
        ("an unknown region", ~metrics["region"].isin(PLACES)),
        ("a scored row without a value", (metrics["status"] == SCORED) & metrics["value"].isna()),
        ("the same case, subset, region and metric twice", metrics.duplicated(keys)),
    ):
        if rows.any():
            first = ", ".join(map(str, metrics.loc[rows, keys].iloc[0]))
            raise RunError(f"{file} holds {problem} ({first}).", _AGAIN)
    return metrics


def read_run(run: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return `log.csv` of a run folder, one row per epoch, and `validation.csv`, None before a validation."""
    fix = "Give the folder that `anymri train` wrote, after its first epoch."
    log = _read_csv(run / "log.csv", _LOG_COLUMNS, fix)
    file = run / "validation.csv"
    if not file.is_file() or not file.read_text(encoding="utf-8").strip():
        return log, None
    validation = _read_csv(file, _VALIDATION_COLUMNS, fix)
    return log, None if validation.empty else validation


def read_provenance(folder: Path) -> dict[str, Any]:
    """Return the content of `provenance.json` of a run, an evaluation or a segmentation."""
    file = folder / "provenance.json"
    fix = "Give a folder that anymri wrote, with its provenance beside the results."
    if not file.is_file():
        raise RunError(f"{folder} does not contain provenance.json.", fix)
    try:
        provenance = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(f"{file} cannot be read as JSON: {error}.", fix) from error
    if not isinstance(provenance, dict) or not isinstance(provenance.get("configuration"), dict):
        raise RunError(f"{file} is not a provenance of anymri: it does not have a configuration.", fix)
    return provenance


def system_name(provenance: Mapping[str, Any]) -> str:
    """Return the name of what was evaluated: the tool that wrote the label maps, or the system of the weights."""
    configuration = provenance["configuration"]
    name: str = configuration.get("name") or configuration.get("weights", {}).get("system", "Unknown system")
    return name


def _check_evaluation(folder: Path) -> None:
    """Raise `RunError` for a folder that is not an evaluation, or one that is not finished."""
    if not folder.exists():
        raise RunError(f"{folder} does not exist.", _GIVE)
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, not an evaluation folder.", _GIVE)
    if not any(folder.iterdir()):
        raise RunError(f"{folder} is empty.", _GIVE)
    if (folder / "config.yaml").is_file() and not (folder / "metrics.csv").is_file():
        raise RunError(
            f"{folder} is the run folder of a training, not an evaluation.",
            f"Evaluate it first: anymri evaluate {folder} --data COHORT -o EVAL",
        )
    if (folder / "settings.json").is_file() and not (folder / "provenance.json").is_file():
        cases = len(list((folder / "cases").glob("*.json")))
        raise RunError(
            f"{folder} holds an evaluation that is not finished ({cases} case{'' if cases == 1 else 's'} so far).",
            "Run the same command again: it continues where it stopped.",
        )


def _read_csv(file: Path, columns: Sequence[str], fix: str) -> pd.DataFrame:
    """Return a CSV file with at least these columns."""
    if not file.is_file():
        raise RunError(f"{file.parent} does not contain {file.name}.", fix)
    try:
        table = pd.read_csv(file, dtype=_WORDS, keep_default_na=False, na_values=["", "nan", "NaN"])
        numbers = [column for column in _NUMBERS if column in table.columns]
        table[numbers] = table[numbers].astype(float)
    except (ValueError, OSError) as error:
        raise RunError(f"{file} cannot be read as a table: {error}.", fix) from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise RunError(f"{file} does not have the columns {', '.join(missing)}.", fix)
    return table
