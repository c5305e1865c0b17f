"""Pictures of the worst and of a middling case, segmented anew from what was evaluated, and of scans rebuilt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from anymri.data.case import Study
from anymri.data.preprocessing import Preprocessed, brain_mask
from anymri.errors import AnymriError
from anymri.modalities import Subset
from anymri.report.comparing import Systems, compare
from anymri.report.figures import montage, rebuilt_scans
from anymri.report.html import Examples
from anymri.report.originals import Classes, Original, label_hash, open_original, read_case
from anymri.report.plots import shared_metrics
from anymri.report.reading import StoredEvaluation
from anymri.report.tables import count, format_value, heading, lower_is_better

Progress = Callable[[str, int, int], None]


def examples(
    evaluations: Mapping[str, StoredEvaluation], device: str = "auto", progress: Progress = lambda *_: None
) -> list[Examples]:
    """The case with the lowest mean and the one in the middle, as segmented by all systems, and scans rebuilt of the
    latter. Where something is not there any more, or has changed, a sentence says so instead.

    progress  called with the name of a system, and how many of how many are done before it
    """
    systems = compare(evaluations, shared_metrics(evaluations)[0])
    notes: list[str] = []
    chosen = _choose(systems)
    studies: dict[str, Study] = {}
    for case in chosen:
        found = _study(evaluations, case)
        if isinstance(found, Study):
            studies[case] = found
        else:
            notes.append(found)
    made: dict[str, dict[str, dict[str, Classes]]] = {case: {} for case in studies}
    rebuilt: dict[str, Figure] = {}
    rebuilding: list[str] = []
    for number, (name, evaluation) in enumerate(evaluations.items() if studies else ()):
        progress(name, number, len(evaluations))
        try:
            original = open_original(evaluation, device)
            for case, study in studies.items():
                made[case][name] = original.segment(study, chosen[case].subsets)
            study = list(studies.values())[-1]
            if figure := _rebuilt(original, study):
                caption = f"{name}, {study.case.name}: each scan as rebuilt from the others, and what it differs by."
                rebuilt[caption] = figure
        except AnymriError as error:
            notes.append(f"No pictures of {name}: {error.what}")
    progress("", len(evaluations), len(evaluations))
