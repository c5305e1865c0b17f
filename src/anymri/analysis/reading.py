"""Reading of what commands wrote, with checks: metrics, logs and provenance."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anymri.errors import ConfigurationError, InputWarning, RunError
from anymri.evaluation.metrics import METRICS
from anymri.evaluation.rows import COLUMNS, CURVE_COLUMNS, PLACES, SCORED
from anymri.files import LARGEST_TABLE, is_unused, read_text, sha256
from anymri.modalities import SUBSETS
from anymri.systems.protocol import ANYMRI
from anymri.text import count, shortened, visible

_LOG_COLUMNS = ("stage", "epoch", "step", "seconds", "learning_rate")
_VALIDATION_COLUMNS = ("stage", "epoch", "step", "region", "dice")
# The name of a case may be 001 or nan, so words are never read as numbers or as missing.
_WORDS = dict.fromkeys(("case", "subset", "region", "metric", "status", "stage"), "str")
_NUMBERS = ("value", "dice", "epoch", "step", "bin", "voxels", "confidence", "frequency")

# Metrics have some rounding, and names of systems must fit into tables and figures.
_TOLERANCE, _NAME_LENGTH = 1e-6, 80

_GIVE = "Give the folder of a finished `anymri evaluate` or `anymri score`."
_REBUILD = "Run the same `anymri evaluate` or `anymri score` command again: it writes the file again."
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
        return set(self.metrics["metric"].unique())

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Settings of the evaluation."""
        found: Mapping[str, Any] = self.provenance["configuration"]
        return found

    @property
    def protocol(self) -> tuple[str, str]:
        """Name and rules of the protocol; those of anymri without rules where none is recorded, as of label maps."""
        found = self.configuration.get("protocol", {})
        return visible(str(found.get("name", ANYMRI))), visible(str(found.get("rules", "")))

    @property
    def inputs(self) -> Mapping[str, Mapping[str, str]]:
        """Name of an input -> `file` and `sha256`; files of cases are named `CASE: T1`, `CASE: label`, ..."""
        found: Mapping[str, Mapping[str, str]] = self.provenance.get("inputs", {})
        return found


def read_evaluations(folders: Sequence[Path]) -> dict[str, StoredEvaluation]:
    """Return evaluations by the names of their systems, and of their folders where these are the same.

    Warns with `InputWarning` for each of `doubts`. Raises `RunError` for a folder that is not a finished evaluation,
    `ConfigurationError` for one named twice.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigurationError("An evaluation is named twice.", "Name each folder once.")
    found = [read_evaluation(folder) for folder in folders]
    for doubt in doubts(found):
        warnings.warn(doubt, InputWarning, stacklevel=2)
    systems = [system_name(each.provenance) for each in found]
    names = [
        f"{name} ({visible(each.folder.resolve().name)})" if systems.count(name) > 1 else name
        for name, each in zip(systems, found, strict=True)
    ]
    if len(set(names)) < len(names):
        names = [f"{name} ({visible(str(each.folder))})" for name, each in zip(systems, found, strict=True)]
    return dict(zip(names, found, strict=True))


def doubts(evaluations: Sequence[StoredEvaluation]) -> list[str]:
    """Return sentences on why evaluations may not be comparable although the names of their cases are the same."""
    sentences = []
    schemes = {str(each.configuration.get("label_scheme")) for each in evaluations}
    if len(schemes) > 1:
        sentences.append(f"The evaluations have different label schemes: {', '.join(sorted(schemes))}.")
    if len({_distinct(each) for each in evaluations}) > 1:
        found = ", ".join(f"{system_name(each.provenance)} by {each.protocol[0]}" for each in evaluations)
        sentences.append(f"The evaluations follow different protocols, which alone change values: {found}.")
    hashes: dict[str, set[str]] = {}
    for each in evaluations:
        for name, file in each.inputs.items():
            if name.endswith(": label") and "sha256" in file:
                hashes.setdefault(name.removesuffix(": label"), set()).add(file["sha256"])
    differing = sorted(visible(case) for case, found in hashes.items() if len(found) > 1)
    if differing:
        shown = ", ".join(differing[:3]) + (", ..." if len(differing) > 3 else "")
        sentences.append(f"The evaluations have different label maps of {len(differing)} of the cases: {shown}.")
    return sentences


def _distinct(evaluation: StoredEvaluation) -> tuple[str, str]:
    """Return the protocol of an evaluation, that of anymri without its rules, which are the same for all systems."""
    name, rules = evaluation.protocol
    return name, "" if name == ANYMRI else rules


def protocol_notes(evaluations: Mapping[str, StoredEvaluation]) -> list[str]:
    """Return sentences on the protocols of evaluations, named by system: one if it is the same for all of them."""
    by_protocol: dict[tuple[str, str], list[str]] = {}
    for system, each in evaluations.items():
        if each.protocol[1]:
            by_protocol.setdefault(each.protocol, []).append(system)
    return [
        f"Protocol {name} ({', '.join(systems)}): {rules}." if len(by_protocol) > 1 else f"Protocol {name}: {rules}."
        for (name, rules), systems in by_protocol.items()
    ]


def read_evaluation(folder: Path) -> StoredEvaluation:
    """Return one evaluation; raise `RunError` with the reason if the folder is not a finished one."""
    _check_evaluation(folder)
    provenance, file = read_provenance(folder), folder / "reliability.csv"
    _check_unchanged(folder, provenance.get("outputs", {}))
    reliability = _read_csv(file, CURVE_COLUMNS, _REBUILD) if file.is_file() else None
    return StoredEvaluation(folder, provenance, read_metrics(folder), reliability)


def _check_unchanged(folder: Path, outputs: Mapping[str, str]) -> None:
    """Raise `RunError` if a table of an evaluation is not as it was written; older evaluations do not record that."""
    for name, written in outputs.items():
        file = folder / Path(name).name
        if not file.is_file():
            raise RunError(f"{folder} does not contain {file.name}.", _REBUILD)
        if sha256(file) != written:
            raise RunError(f"{file} has changed since the evaluation.", _REBUILD)


def read_metrics(evaluation: Path) -> pd.DataFrame:
    """Return the rows of `metrics.csv` in an evaluation folder.

    Raises `RunError` if the file is missing or its rows would give wrong means or tables: an unknown subset or region,
    a scored row without a possible value, a case scored twice, or a name that cannot be printed.
    """
    file = evaluation / "metrics.csv"
    metrics = _read_csv(file, COLUMNS, _REBUILD if file.is_file() else _GIVE)
    if metrics.empty:
        raise RunError(f"{file} has no rows.", "Evaluate again, with at least one case.")
    keys, scored = list(COLUMNS[:4]), metrics["status"] == SCORED
    for problem, rows in (
        ("a case without a name", metrics["case"] == ""),
        ("a case that cannot be printed", _unprintable(metrics["case"])),
        ("a metric that cannot be printed", _unprintable(metrics["metric"])),
        ("a status that cannot be printed", _unprintable(metrics["status"])),
        ("a subset that is not one of the 15", ~metrics["subset"].isin(_SUBSET_NAMES)),
        ("an unknown region", ~metrics["region"].isin(PLACES)),
        ("a scored row without a finite value", scored & ~np.isfinite(metrics["value"])),
        ("a value that its metric cannot have", scored & _impossible(metrics)),
        ("the same case, subset, region and metric twice", metrics.duplicated(keys)),
    ):
        if rows.any():
            first = ", ".join(map(str, metrics.loc[rows, keys].iloc[0]))
            raise RunError(f"{file} holds {problem} ({shortened(first, 200)}).", _REBUILD)
    return metrics


def read_run(run: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return `log.csv` of a run folder, one row per epoch, and `validation.csv`, None before a validation."""
    fix = "Give the folder that `anymri train` wrote, after its first epoch."
    log = _read_csv(run / "log.csv", _LOG_COLUMNS, fix)
    file = run / "validation.csv"
    if not file.is_file() or not file.stat().st_size:
        return log, None
    validation = _read_csv(file, _VALIDATION_COLUMNS, fix)
    return log, None if validation.empty else validation


def read_provenance(folder: Path) -> dict[str, Any]:
    """Return the content of `provenance.json` of a run, an evaluation or a segmentation."""
    file = folder / "provenance.json"
    fix = "Give a folder that anymri wrote, with its provenance beside the results."
    if not file.is_file():
        raise RunError(f"{folder} does not contain provenance.json.", fix)
    again = "Run the command that wrote the folder again; `anymri evaluate` and `anymri score` write the file again."
    try:
        provenance = json.loads(read_text(file))
    except (ValueError, RecursionError, OSError) as error:
        raise RunError(f"{file} cannot be read as JSON.", again) from error
    if not isinstance(provenance, dict) or not isinstance(provenance.get("configuration"), dict):
        raise RunError(f"{file} is not a provenance of anymri: it does not have a configuration.", fix)
    configuration, inputs = provenance["configuration"], provenance.get("inputs", {})
    sections = [configuration.get(name, {}) for name in ("weights", "conventions", "protocol")]
    sections += [provenance.get(name, {}) for name in ("versions", "outputs")]
    if not all(isinstance(each, dict) for each in (*sections, inputs)) or not all(
        isinstance(each, dict) for each in inputs.values()
    ):
        raise RunError(f"{file} is not a provenance of anymri: one of its sections is not a mapping.", fix)
    return provenance


def system_name(provenance: Mapping[str, Any]) -> str:
    """Return the name of what was evaluated: the tool that wrote the label maps, or the system of the weights.

    It is printable and has at most 80 characters.
    """
    configuration = provenance["configuration"]
    name = str(configuration.get("name") or configuration.get("weights", {}).get("system", "Unknown system"))
    return shortened(" ".join(name.split()), _NAME_LENGTH)


def _unprintable(words: pd.Series) -> pd.Series:
    return words.isin([word for word in words.unique() if not word.isprintable()])


def _impossible(metrics: pd.DataFrame) -> pd.Series:
    """Return where a value is negative, or a fraction above 1."""
    units = {name: metric.unit for name, metric in METRICS.items()}
    fractions = metrics["metric"].isin([name for name, unit in units.items() if unit == "fraction"])
    lengths = metrics["metric"].isin([name for name, unit in units.items() if unit in ("mm", "mL")])
    low, high = metrics["value"] < -_TOLERANCE, metrics["value"] > 1 + _TOLERANCE
    return (fractions | lengths) & low | fractions & high


def _check_evaluation(folder: Path) -> None:
    """Raise `RunError` for a folder that is not an evaluation, or one that is not finished."""
    if not folder.exists():
        raise RunError(f"{folder} does not exist.", _GIVE)
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, not an evaluation folder.", _GIVE)
    if is_unused(folder):
        raise RunError(f"{folder} is empty.", _GIVE)
    if (folder / "config.yaml").is_file() and not (folder / "metrics.csv").is_file():
        raise RunError(
            f"{folder} is the run folder of a training, not an evaluation.",
            f"Evaluate it first: anymri evaluate {folder} --data COHORT -o EVAL",
        )
    if (folder / "settings.json").is_file() and not (folder / "provenance.json").is_file():
        cases = len(list((folder / "cases").glob("*.json")))
        raise RunError(
            f"{folder} holds an evaluation that is not finished ({count(cases, 'case')} so far).",
            "Run the same command again: it continues where it stopped.",
        )


def _read_csv(file: Path, columns: Sequence[str], fix: str) -> pd.DataFrame:
    """Return a CSV file with at least these columns."""
    if not file.is_file():
        raise RunError(f"{file.parent} does not contain {file.name}.", fix)
    try:
        nothing = {column: ["", "nan", "NaN"] for column in _NUMBERS}
        text = io.StringIO(read_text(file, LARGEST_TABLE))
        table = pd.read_csv(text, dtype=_WORDS, keep_default_na=False, na_values=nothing)
        numbers = [column for column in _NUMBERS if column in table.columns]
        table[numbers] = table[numbers].astype(float)
    except (ValueError, OSError) as error:
        raise RunError(f"{file} cannot be read as a table.", fix) from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise RunError(f"{file} does not have the columns {', '.join(missing)}.", fix)
    return table
