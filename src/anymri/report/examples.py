"""Pictures of the worst and of the median case, segmented again from what was evaluated, and of reconstructed scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anymri.analysis.comparison import MetricComparison
from anymri.analysis.reading import StoredEvaluation
from anymri.data.case import Study
from anymri.data.prepared import Prepared
from anymri.data.preprocessing import brain_mask
from anymri.errors import AnymriError
from anymri.evaluation.metrics.printing import format_value, heading, lower_is_better
from anymri.modalities import Subset
from anymri.progress import Progress, silent
from anymri.report.figures import montage, reconstructed_scans
from anymri.report.pages import Examples
from anymri.report.plots import compare_all
from anymri.text import count

Classes = NDArray[np.uint8]


class Original(Protocol):
    """The weights or label maps of one evaluation."""

    def segment(self, study: Study, subsets: Sequence[str]) -> dict[str, Classes]:
        """Return the classes of each subset on the grid of the study, (X, Y, Z) uint8."""

    def reconstruct(self, study: Study) -> tuple[Prepared, dict[str, NDArray[np.float32]]] | None:
        """Return the prepared case, and each modality, (X, Y, Z), reconstructed from all others; None without any."""


class Originals(Protocol):
    """Access to what evaluations were made from; `anymri.evaluation.originals.Originals` reads it from disk."""

    def open(self, evaluation: StoredEvaluation) -> Original:
        """Return the weights or label maps of an evaluation; raise an `AnymriError` if they have changed."""

    def read_case(self, evaluation: StoredEvaluation, case: str) -> Study:
        """Return the scans and the label map of a case; raise an `AnymriError` if they have changed."""


@dataclass(frozen=True)
class Choice:
    """A case to draw.

    rank     worst or median
    words    the case, its rank and its mean metric
    subsets  one subset per number of modalities, largest first: the one of the same rank among them
    """

    case: str
    rank: str
    words: str
    subsets: list[str]


def examples(
    evaluations: Mapping[str, StoredEvaluation], originals: Originals, progress: Progress = silent
) -> list[Examples]:
    """Return pictures of the worst and the median case by all systems, and of reconstructed scans of the latter.

    Everything is computed again from the weights, label maps and scans that the provenance names. If a file has changed
    or does not exist any more, a sentence takes the place of the picture.

    progress  called with the name of a system, and how many of how many are done before it
    """
    choices = choose(next(iter(compare_all(evaluations).values())))
    notes: list[str] = []
    studies = {
        choice.case: study for choice in choices if (study := _study(evaluations, originals, choice.case, notes))
    }
    made: dict[str, dict[str, dict[str, Classes]]] = {case: {} for case in studies}
    reconstructed: dict[str, Figure] = {}
    for number, (name, evaluation) in enumerate(evaluations.items() if studies else ()):
        progress(name, number, len(evaluations))
        try:
            original = originals.open(evaluation)
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
    """Return the cases with the worst and with the median mean over subsets, regions and systems."""
    rows = pd.concat(comparison.common.values())
    means = _ranked(rows, "case", comparison.metric)
    chosen: list[Choice] = []
    for place, rank in ((0, "worst"), (len(means) // 2, "median")):
        case = str(means.index[place])
        if any(case == other.case for other in chosen):
            continue
        of_case = rows[rows["case"] == case]
        value = format_value(float(means.iloc[place]), comparison.metric)
        subsets = of_case["subset"].nunique()
        sizes = of_case["subset"].map(lambda name: len(Subset.parse(name)))
        picked = []
        for size in sorted(sizes.unique(), reverse=True):
            ranked = _ranked(of_case[sizes == size], "subset", comparison.metric)
            picked.append(str(ranked.index[0 if place == 0 else len(ranked) // 2]))
        what = f"{case}, {rank} of {count(len(means), 'case')}"
        mean = f"mean {heading(comparison.metric)} {value} over {count(subsets, 'subset')}"
        chosen.append(Choice(case, rank, f"{what} ({mean})", picked))
    return chosen


def _ranked(rows: pd.DataFrame, key: str, metric: str) -> pd.Series:
    """Return the means by `key`, worst first; equal ones by name."""
    means = rows.groupby(key)["value"].mean().sort_index()
    return means.sort_values(ascending=not lower_is_better(metric), kind="stable")


def _study(
    evaluations: Mapping[str, StoredEvaluation], originals: Originals, case: str, notes: list[str]
) -> Study | None:
    """Return the case from the first evaluation whose files still exist, if all were scored on one label map."""
    if len({each.inputs.get(f"{case}: label", {}).get("sha256") for each in evaluations.values()}) > 1:
        notes.append(f"There are no pictures of {case}: the systems were scored on label maps that differ.")
        return None
    reasons = []
    for evaluation in evaluations.values():
        try:
            return originals.read_case(evaluation, case)
        except AnymriError as error:
            reasons.append(error.what)
    notes.append(f"There are no pictures of {case}: {reasons[0]}")
    return None


def _pictures(
    choice: Choice, study: Study, made: Mapping[str, Mapping[str, Classes]], alone: bool
) -> dict[str, Figure]:
    """Return caption -> picture of all subsets, or of all systems for the most and the fewest modalities."""
    x, y, z = np.linalg.norm(study.affine[:3, :3], axis=0).tolist()
    if alone:
        ((name, maps),) = made.items()
        shown = f"{choice.words}: its label map, and the predictions of {name} from {_listed(choice.subsets)}"
        why = f", for each number of modalities the {choice.rank} subset" if len(maps) > 1 else ""
        return {f"{shown}{why}.": montage(study.images, study.classes, maps, (x, y, z))}
    pictures = {}
    for subset in dict.fromkeys((choice.subsets[0], choice.subsets[-1])):
        of_systems = {name: maps[subset] for name, maps in made.items()}
        pictures[f"{choice.words}: its label map, and the predictions of the systems from {subset}."] = montage(
            study.images, study.classes, of_systems, (x, y, z), subset
        )
    return pictures


def _reconstructed(original: Original, study: Study) -> Figure | None:
    found = original.reconstruct(study)
    if found is None:
        return None
    case, scans = found
    assert case.classes is not None
    x, y, z = np.linalg.norm(study.affine[:3, :3], axis=0).tolist()
    return reconstructed_scans(case.scans, scans, brain_mask(study)[case.box], case.classes.numpy(), (x, y, z))


def _caption_of_reconstructed(name: str, case: str) -> str:
    return (
        f"{case}: each scan as {name} reconstructs it from the others. Differences inside the brain: blue where the "
        "reconstructed scan is darker, red where it is brighter, in full colour at half the distance from black to "
        "white."
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
