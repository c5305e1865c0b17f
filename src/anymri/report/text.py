"""Sentences and small tables of the page of a report: data, systems, protocol, summary of the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anymri.analysis import tables
from anymri.analysis.comparison import MetricComparison
from anymri.analysis.grid import Cell, Grid, Group
from anymri.analysis.reading import StoredEvaluation
from anymri.analysis.tables import MEAN
from anymri.evaluation.metrics.printing import NOTHING, explain, format_value, heading, lower_is_better
from anymri.modalities import MODALITIES, SUBSETS
from anymri.regions import SCHEMES
from anymri.text import count, listed

_NAMED_CASES = 12


def summary(evaluations: Mapping[str, StoredEvaluation], by_metric: Mapping[str, MetricComparison]) -> list[str]:
    """Return which systems were evaluated on which data, and the range of each metric."""
    first = next(iter(by_metric.values()))
    subsets = len(first.subsets)
    which = f"all {subsets}" if subsets == len(SUBSETS) else f"{subsets} of the {len(SUBSETS)}"
    names = list(evaluations)
    systems = f"{names[0]} was" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} were"
    opening = f"{systems} evaluated on {count(len(first.cases), 'case')} with {which} subsets of T1, T1c, T2 and FLAIR."
    results = [
        _range_over_subsets(each) if len(names) == 1 else _range_over_systems(each) for each in by_metric.values()
    ]
    return [opening, *first.not_shared, *results]


def _range_over_subsets(comparison: MetricComparison) -> str:
    """Return the best and the worst subset of one system by the mean over the regions that have values."""
    (rows,) = comparison.common.values()
    table = tables.subset_table(rows, comparison.metric)
    means = tables.means_over_regions(table)
    if means.empty:
        return f"{heading(comparison.metric)}: no subset has values in all regions."
    regions = [region for region in tables.regions_in(table) if table[region].notna().any()]
    ranked = means.sort_values(ascending=lower_is_better(comparison.metric), kind="stable")
    best, worst = (f"{format_value(ranked.iloc[i], comparison.metric)} with {ranked.index[i]}" for i in (0, -1))
    return (
        f"{explain(comparison.metric)}, averaged over {', '.join(regions)}: best {best}, worst {worst}, "
        f"mean of {count(len(means), 'subset')} {format_value(means.mean(), comparison.metric)}."
    )


def _range_over_systems(comparison: MetricComparison) -> str:
    """Return the best and the worst system by the mean over subsets and regions."""
    regions = comparison.regions
    means = {name: sum(each[MEAN, r] for r in regions) / len(regions) for name, each in comparison.means.items()}
    ranked = sorted(means, key=means.__getitem__, reverse=not lower_is_better(comparison.metric))
    best, worst = (f"{format_value(means[name], comparison.metric)} ({name})" for name in (ranked[0], ranked[-1]))
    return (
        f"{explain(comparison.metric)}, averaged over {count(len(comparison.subsets), 'subset')} and "
        f"{', '.join(regions)}: from {best} to {worst}."
    )


def data_facts(evaluations: Mapping[str, StoredEvaluation]) -> dict[str, str]:
    """Return name -> value of facts about the data: cohort, cases, scans, label scheme."""
    settings = [each.configuration for each in evaluations.values()]
    cases = sorted({str(case) for each in evaluations.values() for case in each.metrics["case"].unique()})
    schemes = _all("label_scheme", settings)
    facts = {
        "Cohort": ", ".join(dict.fromkeys([*_all("data", settings), *_all("labels", settings)])),
        "Cases": f"{len(cases)}: {listed(cases, _NAMED_CASES)}",
        "Scans": _scans(evaluations, cases),
        "Labels": "; ".join(f"{s} ({SCHEMES[s].description})" if s in SCHEMES else s for s in schemes),
    }
    return {name: value for name, value in facts.items() if value}


def _all(key: str, settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return every value of a setting, once."""
    return list(dict.fromkeys(str(each[key]) for each in settings if each.get(key)))


def _scans(evaluations: Mapping[str, StoredEvaluation], cases: Sequence[str]) -> str:
    """Return how many of the cases have each scan, if the provenance records scans."""
    recorded = {role for each in evaluations.values() for role in each.inputs}
    having = {m: sum(f"{case}: {m}" in recorded for case in cases) for m in MODALITIES}
    if not any(having.values()):
        return ""
    if all(number == len(cases) for number in having.values()):
        return f"{', '.join(MODALITIES)} of every case"
    return ", ".join(f"{m} of {count(having[m], 'case')}" for m in MODALITIES)


def systems_grid(evaluations: Mapping[str, StoredEvaluation]) -> Grid:
    """Return one row per system: its weights and how they were used."""
    columns = (
        "trained on",
        "of these cases",
        "protocol",
        "window",
        "overlap",
        "blending",
        "input",
        "evaluated",
        "anymri",
    )
    rows = []
    for name, each in evaluations.items():
        card = each.configuration.get("weights", {})
        trained_on = card.get("trained_on")
        here = set(trained_on or ()) & set(each.metrics["case"].unique())
        cells = [
            count(len(trained_on), "case") if trained_on else NOTHING,
            str(len(here)) if trained_on else NOTHING,
            each.protocol[0] if card else NOTHING,
            str(card.get("window", NOTHING)),
            f"{card['window_overlap']:.0%}" if "window_overlap" in card else NOTHING,
            card.get("window_blending", NOTHING),
            _input(card.get("preprocessing", {})) if card else "label maps of another tool",
            str(each.provenance.get("created", NOTHING))[:10],
            str(each.provenance.get("versions", {}).get("anymri", NOTHING)),
        ]
        rows.append([Cell(text) for text in (name, *cells)])
    return Grid("Systems, their training data and their input", ("system",), [Group("", columns)], rows)


def _input(preprocessing: Mapping[str, Any]) -> str:
    """Return how intensities were preprocessed, by the names of `Preprocessing`."""
    words = [str(preprocessing.get("normalisation", NOTHING)).replace("_", " ")]
    words += ["cropped to the brain"] if preprocessing.get("crop_to_brain") else []
    return ", ".join(words)


def seen_in_training(evaluations: Mapping[str, StoredEvaluation]) -> list[str]:
    """Return warnings about systems that were evaluated on cases of their training."""
    sentences = []
    for name, each in evaluations.items():
        seen = set(each.configuration.get("weights", {}).get("trained_on", ())) & set(each.metrics["case"].unique())
        if seen:
            sentences.append(
                f"{name} was trained on {len(seen)} of the cases that it is evaluated on: their metrics are not a test."
            )
    return sentences


def protocol(evaluations: Mapping[str, StoredEvaluation], by_metric: Mapping[str, MetricComparison]) -> list[str]:
    """Return the rules of the evaluation as sentences."""
    sentences = [
        "Every case is segmented from each subset of its scans separately. A subset with a modality that a case does "
        "not have, or without a prediction, is not scored: it is in no mean, and never a zero.",
        "Means are over cases; the mean over subsets is that of their means, with equal weights.",
    ]
    if any("weights" in each.configuration for each in evaluations.values()):
        sentences.append(
            "Networks are applied to windows, by default overlapping ones that are blended with Gaussian or constant "
            "weights; every window is encoded once for all subsets."
        )
    if len(evaluations) > 1:
        sentences.append(
            "Means and tests of several systems are over the cases, subsets and regions that all of them have scored."
        )
    # The sentence on the protocol comes with every metric.
    return list(dict.fromkeys([*sentences, *(text for each in by_metric.values() for text in each.conventions)]))


def unscored(evaluations: Mapping[str, StoredEvaluation]) -> list[str]:
    """Return sentences on what could not be scored, once if it is the same for all systems."""
    found: dict[str, list[str]] = {}
    for name, each in evaluations.items():
        for sentence in tables.unscored_notes(each.metrics):
            found.setdefault(sentence, []).append(name)
    return [
        sentence if len(names) == len(evaluations) else f"{', '.join(names)}: {sentence}"
        for sentence, names in found.items()
    ]


def not_compared(evaluations: Mapping[str, StoredEvaluation], by_metric: Mapping[str, MetricComparison]) -> list[str]:
    """Return sentences on metrics that the page does not show, with the reason."""
    sentences = []
    for metric in sorted({metric for each in evaluations.values() for metric in each.metric_names} - set(by_metric)):
        names = [name for name, each in evaluations.items() if metric in each.metric_names]
        why = f"only {', '.join(names)} has it" if len(names) == 1 else f"only {', '.join(names)} have it"
        if len(names) == len(evaluations):
            why = "no case has a value" if len(names) == 1 else "there is no case that all have scored"
        sentences.append(f"{heading(metric)} is not shown: {why}.")
    return sentences
