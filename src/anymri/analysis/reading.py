"""What commands left on disk, read and checked: metrics, logs and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from anymri.errors import ConfigurationError, RunError
from anymri.evaluation.rows import COLUMNS, PLACES, SCORED
from anymri.modalities import SUBSETS

_LOG_COLUMNS = ("stage", "epoch", "step", "seconds", "learning_rate")
_VALIDATION_COLUMNS = ("stage", "epoch", "step", "region", "dice")
# A case may be called 001, so words are never read as numbers.
_WORDS = dict.fromkeys(("case", "subset", "region", "metric", "status", "stage"), "str")
_NUMBERS = ("value", "dice", "epoch", "step", "bin", "voxels", "confidence", "frequency")
_RELIABILITY_COLUMNS = ("case", "subset", "region", "bin", "voxels", "confidence", "frequency")
_GIVE = "Give the folder that `anymri evaluate` wrote, when it is finished."
_AGAIN = "Run `anymri evaluate` again into an empty folder."
_SUBSET_NAMES = [str(subset) for subset in SUBSETS]


@dataclass(frozen=True)
class StoredEvaluation:
    """An evaluation folder, read.

    scores       the rows of `metrics.csv`
    reliability  the rows of `reliability.csv`, None where calibration was not asked for
    """

    folder: Path
    provenance: Mapping[str, Any]
    metrics: pd.DataFrame
    reliability: pd.DataFrame | None

    @cached_property
    def metric_names(self) -> set[str]:
        return set(self.metrics["metric"])

    @property
    def configuration(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.provenance["configuration"]
        return found

    @property
    def inputs(self) -> Mapping[str, Mapping[str, str]]:
        """What -> `file` and `sha256`; files of cases are named `CASE: T1`, `CASE: label`, ..."""
        found: Mapping[str, Mapping[str, str]] = self.provenance.get("inputs", {})
        return found


def read_evaluations(folders: Sequence[Path]) -> dict[str, StoredEvaluation]:
    """Evaluation folders by the names of their systems, and of their folders where these are the same.

    Raises `RunError` for a folder that is no evaluation, or one that is not finished.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigurationError("An evaluation is named twice.", "Name every folder once.")
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
    """One evaluation folder; raises `RunError` that says what it is instead, or what it lacks."""
    _check_evaluation(folder)
    file = folder / "reliability.csv"
    reliability = _read_csv(file, _RELIABILITY_COLUMNS, _AGAIN) if file.is_file() else None
    return StoredEvaluation(folder, read_provenance(folder), read_metrics(folder), reliability)


def read_metrics(evaluation: Path) -> pd.DataFrame:
    """The rows of `metrics.csv` in an evaluation folder.

    Raises `RunError` if the folder is none, or if its rows would give wrong means: a foreign subset or region, a scored
    row without a value, or one case scored twice.
    """
    file = evaluation / "metrics.csv"
    metrics = _read_csv(file, COLUMNS, _GIVE)
    if metrics.empty:
        raise RunError(f"{file} holds no rows.", "Run `anymri evaluate` again, on at least one case.")
    keys = list(COLUMNS[:4])
    for problem, rows in (
        ("a subset that is none of the 15", ~metrics["subset"].isin(_SUBSET_NAMES)),
        ("an unknown region", ~metrics["region"].isin(PLACES)),
        ("a scored row without a value", (metrics["status"] == SCORED) & metrics["value"].isna()),
        ("the same case, subset, region and metric twice", metrics.duplicated(keys)),
    ):
        if rows.any():
            first = ", ".join(map(str, metrics.loc[rows, keys].iloc[0]))
            raise RunError(f"{file} holds {problem} ({first}).", _AGAIN)
    return metrics


def read_run(run: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """`log.csv` of a run folder, one row per epoch, and `validation.csv`, or None while nothing is validated."""
    fix = "Give the folder that `anymri train` wrote, after its first epoch."
    log = _read_csv(run / "log.csv", _LOG_COLUMNS, fix)
    file = run / "validation.csv"
    if not file.is_file() or not file.read_text(encoding="utf-8").strip():
        return log, None
    validation = _read_csv(file, _VALIDATION_COLUMNS, fix)
    return log, None if validation.empty else validation


def read_provenance(folder: Path) -> dict[str, Any]:
    """The `provenance.json` of a run, an evaluation or a segmentation."""
    file = folder / "provenance.json"
    fix = "Give a folder that anymri wrote, with its provenance beside the results."
    if not file.is_file():
        raise RunError(f"{folder} holds no provenance.json.", fix)
    try:
        provenance = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(f"{file} cannot be read as JSON: {error}.", fix) from error
    if not isinstance(provenance, dict) or not isinstance(provenance.get("configuration"), dict):
        raise RunError(f"{file} is no provenance of anymri: it has no configuration.", fix)
    return provenance


def system_name(provenance: Mapping[str, Any]) -> str:
    """What an evaluation scored: the tool named for its masks, or the system of its weights."""
    configuration = provenance["configuration"]
    name: str = configuration.get("name") or configuration.get("weights", {}).get("system", "Unknown system")
    return name


def _check_evaluation(folder: Path) -> None:
    """Raises `RunError` for what is plainly no evaluation, or one that is still being made."""
    if not folder.exists():
        raise RunError(f"{folder} does not exist.", _GIVE)
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, and no evaluation.", _GIVE)
    if not any(folder.iterdir()):
        raise RunError(f"{folder} is empty.", _GIVE)
    if (folder / "config.yaml").is_file() and not (folder / "metrics.csv").is_file():
        raise RunError(
            f"{folder} is a training's run, and no evaluation.",
            f"Evaluate it first: anymri evaluate {folder} --data COHORT -o EVAL",
        )
    if (folder / "settings.json").is_file() and not (folder / "provenance.json").is_file():
        cases = len(list((folder / "cases").glob("*.json")))
        raise RunError(
            f"{folder} holds an evaluation that is not finished ({cases} case{'' if cases == 1 else 's'} so far).",
            "Run the same `anymri evaluate` again: it goes on where it stopped.",
        )


def _read_csv(file: Path, columns: Sequence[str], fix: str) -> pd.DataFrame:
    """A CSV file with at least these columns."""
    if not file.is_file():
        raise RunError(f"{file.parent} holds no {file.name}.", fix)
    try:
        table = pd.read_csv(file, dtype=_WORDS, keep_default_na=False, na_values=["", "nan", "NaN"])
        numbers = [column for column in _NUMBERS if column in table.columns]
        table[numbers] = table[numbers].astype(float)
    except (ValueError, OSError) as error:
        raise RunError(f"{file} cannot be read as a table: {error}.", fix) from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise RunError(f"{file} lacks the columns {', '.join(missing)}.", fix)
    return table
