"""Pictures of the worst and of the median case, segmented anew from what was evaluated, and of scans reconstructed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from anymri.analysis.comparison import MetricComparison
from anymri.analysis.reading import StoredEvaluation
from anymri.analysis.tables import count, format_value, heading, lower_is_better
from anymri.data.case import Study
from anymri.data.preprocessing import brain_mask
from anymri.errors import AnymriError
from anymri.evaluation.folder import silent
from anymri.evaluation.originals import Classes, Original, label_hash, open_original, read_case
from anymri.modalities import Subset
from anymri.report.figures import montage, reconstructed_scans
from anymri.report.pages import Examples
from anymri.report.plots import compare_all

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Choice:
    """A case to show.

    rank     worst or median
    words    it, its rank and its score
    subsets  one with each number of modalities, most first: that of the same rank among them
    """

    case: str
    rank: str
    words: str
    subsets: list[str]


def examples(
    evaluations: Mapping[str, StoredEvaluation], device: str = "auto", progress: Progress = silent
) -> list[Examples]:
    """The worst and the median case as all systems segment them, and the latter's scans reconstructed.

    Everything is computed anew from weights, masks and scans that the provenance name. Where something is not there any
    more, or is not what it was, a sentence says so in place of a picture.

    progress  called with the name of a system, and how many of how many are done before it
    """
    choices = choose(next(iter(compare_all(evaluations).values())))
    notes: list[str] = []
    studies = {choice.case: study for choice in choices if (study := _study(evaluations, choice.case, notes))}
    made: dict[str, dict[str, dict[str, Classes]]] = {case: {} for case in studies}
    reconstructed: dict[str, Figure] = {}
    for number, (name, evaluation) in enumerate(evaluations.items() if studies else ()):
        progress(name, number, len(evaluations))
        try:
            original = open_original(evaluation, device)
            for choice in choices:
                if choice.case in studies:
                    made[choice.case][name] = original.segment(studies[choice.case], choice.subsets)
            *_, last = studies.values()
            if figure := _reconstructed(original, last):
                reconstructed[_caption_of_reconstructed(name, last.case.name)] = figure
        except AnymriError as error:
            notes.append(f"Pictures of {name} are missing: {error.what}")
    progress("", len(evaluations), len(evaluations))
    pictures: dict[str, Figure] = {}
    for choice in choices:
        if made.get(choice.case):
            pictures |= _pictures(choice, studies[choice.case], made[choice.case], len(evaluations) == 1)
    found = [Examples("Worst and median case", list(dict.fromkeys(notes)), pictures)]
    return [*found, Examples("Reconstructed scans", [], reconstructed)] if reconstructed else found


def choose(comparison: MetricComparison) -> list[Choice]:
    """The cases with the worst and with the median mean over subsets, regions and comparison."""
    rows = pd.concat(comparison.common.values())
    means = _ranked(rows, "case", comparison.metric)
    chosen: list[Choice] = []
    for place, rank in ((0, "worst"), (len(means) // 2, "median")):
        case = str(means.index[place])
        if any(case == other.case for other in chosen):
            continue
        own = rows[rows["case"] == case]
        value = format_value(float(means.iloc[place]), comparison.metric)
        subsets = own["subset"].nunique()
        sizes = own["subset"].map(lambda name: len(Subset.parse(name)))
        picked = []
        for size in sorted(sizes.unique(), reverse=True):
            ranked = _ranked(own[sizes == size], "subset", comparison.metric)
            picked.append(str(ranked.index[0 if place == 0 else len(ranked) // 2]))
        what = f"{case}, {rank} of {count(len(means), 'case')}"
        whose = f"mean {heading(comparison.metric)} {value} over {count(subsets, 'subset')}"
        chosen.append(Choice(case, rank, f"{what} ({whose})", picked))
    return chosen


def _ranked(rows: pd.DataFrame, key: str, metric: str) -> pd.Series:
    """Means by `key`, the worst first; what is equal by name."""
    means = rows.groupby(key)["value"].mean().sort_index()
    return means.sort_values(ascending=not lower_is_better(metric), kind="stable")


def _study(evaluations: Mapping[str, StoredEvaluation], case: str, notes: list[str]) -> Study | None:
    """The case as the first evaluation has it that still can, if all were scored on one label map."""
    if len({label_hash(each, case) for each in evaluations.values()}) > 1:
        notes.append(f"There are no pictures of {case}: the systems were scored on label maps that differ.")
        return None
    reasons = []
    for evaluation in evaluations.values():
        try:
            return read_case(evaluation, case)
        except AnymriError as error:
            reasons.append(error.what)
    notes.append(f"There are no pictures of {case}: {reasons[0]}")
    return None


def _pictures(
    choice: Choice, study: Study, made: Mapping[str, Mapping[str, Classes]], alone: bool
) -> dict[str, Figure]:
    """Caption -> one picture of all subsets, or of all systems for the most and the fewest modalities."""
    x, y, z = np.linalg.norm(study.affine[:3, :3], axis=0).tolist()
    if alone:
        ((name, maps),) = made.items()
        shown = f"{choice.words}: its label map, and what {name} makes of {_listed(choice.subsets)}"
        why = f", of every number of modalities the subset with the {choice.rank} score" if len(maps) > 1 else ""
        return {f"{shown}{why}.": montage(study.images, study.classes, maps, (x, y, z))}
    pictures = {}
    for subset in dict.fromkeys((choice.subsets[0], choice.subsets[-1])):
        of_systems = {name: maps[subset] for name, maps in made.items()}
        pictures[f"{choice.words}: its label map, and what the systems make of {subset}."] = montage(
            study.images, study.classes, of_systems, (x, y, z), subset
        )
    return pictures


def _reconstructed(original: Original, study: Study) -> Figure | None:
    found = original.reconstruct(study)
    if found is None:
        return None
    data, scans = found
    assert data.classes is not None
    x, y, z = np.linalg.norm(study.affine[:3, :3], axis=0).tolist()
    return reconstructed_scans(data.scans, scans, brain_mask(study)[data.box], data.classes.numpy(), (x, y, z))


def _caption_of_reconstructed(name: str, case: str) -> str:
    return (
        f"{case}: each scan as {name} reconstructs it from the others. Differences inside the brain: blue where the "
        "reconstructed scan is darker, red where it is brighter, in full colour at half the distance from black to white."
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
