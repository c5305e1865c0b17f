"""Which weights the studio offers, by the names that its page shows; without torch, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from anymri.provenance import name_of_weights
from anymri.weights.folders import installed_files
from anymri.weights.locate import find_weights


def offered(named: Iterable[Path], evaluations: Iterable[Path]) -> Mapping[str, Path]:
    """Return name -> file: the weights that the user names, or else the installed ones; then evaluated ones.

    Raises `WeightsError` if weights that the user names do not exist.
    """
    found: dict[str, Path] = {}
    for path in [*named] or [file for _, file in sorted(installed_files().items())]:
        _add(found, find_weights(path))
    for folder in evaluations:
        file = _evaluated(folder)
        if file is not None:
            _add(found, file)
    return found


def _add(found: dict[str, Path], file: Path) -> None:
    file = file.absolute()
    if file in found.values():
        return
    name = name_of_weights(file)
    number = 1
    while (numbered := name if number == 1 else f"{name} ({number})") in found:
        number += 1
    found[numbered] = file


def _evaluated(evaluation: Path) -> Path | None:
    """Return the weights of an evaluation, if they are where they were."""
    from anymri.analysis.reading import read_provenance

    recorded = read_provenance(evaluation).get("inputs", {}).get("weights")
    file = None if recorded is None else Path(str(recorded.get("file")))
    return file if file is not None and file.is_file() else None
