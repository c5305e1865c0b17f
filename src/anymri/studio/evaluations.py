"""An evaluation as the page shows it: means over cases, and the values of each case."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from anymri.modalities import SUBSETS


def as_json(folder: Path) -> dict[str, Any]:
    """Return the tables of an evaluation; raise `RunError` if the folder is not a finished one.

    name, system  of the folder, and of what was evaluated
    weights       file name of the weights; None for label maps of another tool
    cases         names of the cases
    subsets       the 15 subsets
    metrics       name -> unit
    rows          one per case, subset and region: `case`, `subset`, `region`, and each metric or None; `status` where
                  there is no value
    table         subset -> region -> metric -> mean over the cases that have a value
    notes         how the values were computed
    openable      whether the files of all cases are where they were
    """
    from anymri.analysis.reading import protocol_notes, read_evaluation, system_name
    from anymri.evaluation.metrics import METRICS
    from anymri.evaluation.rows import SCORED

    stored = read_evaluation(folder)
    system = system_name(stored.provenance)
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    sums: dict[tuple[str, str, str], list[float]] = {}
    for case, subset, region, metric, value, status in stored.metrics[
        ["case", "subset", "region", "metric", "value", "status"]
    ].itertuples(index=False, name=None):
        row = rows.setdefault((case, subset, region), {"case": case, "subset": subset, "region": region})
        is_scored = status == SCORED and math.isfinite(value)
        row[metric] = round(float(value), 5) if is_scored else None
        if is_scored:
            sums.setdefault((subset, region, metric), []).append(float(value))
        else:
            row["status"] = status
    table: dict[str, dict[str, dict[str, float]]] = {}
    for (subset, region, metric), values in sums.items():
        table.setdefault(subset, {}).setdefault(region, {})[metric] = round(sum(values) / len(values), 5)
    weights = stored.inputs.get("weights")
    files = [Path(str(each.get("file"))) for name, each in stored.inputs.items() if ": " in name]
    return {
        "name": folder.resolve().name,
        "system": system,
        "systems": [system],
        "weights": None if weights is None else Path(str(weights.get("file"))).name,
        "cases": list(dict.fromkeys(row["case"] for row in rows.values())),
        "subsets": [str(subset) for subset in SUBSETS],
        "metrics": {name: METRICS[name].unit for name in sorted(stored.metric_names) if name in METRICS},
        "rows": list(rows.values()),
        "table": table,
        "notes": protocol_notes({system: stored}),
        "openable": bool(files) and all(file.is_file() for file in files),
    }
