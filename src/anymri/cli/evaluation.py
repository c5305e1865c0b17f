"""`anymri evaluate`, of weights and of masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from anymri.cli.progress import case_progress
from anymri.errors import ConfigurationError
from anymri.modalities import ALL, SUBSETS, Subset

_USAGE = (
    "Use: anymri evaluate WEIGHTS --data COHORT -o EVAL, "
    "or: anymri evaluate --predictions DIR --labels DIR --label-scheme SCHEME -o EVAL"
)


def evaluate_weights(
    console: Console,
    weights: Path | None,
    data: Path | None,
    output: Path,
    scheme: str | None,
    subsets: str | None,
    metrics: Sequence[str] | None,
    device: str,
    stray: Mapping[str, object],
) -> None:
    """Scores weights on a cohort and prints the table; `stray` are options that only masks take."""
    if weights is None or data is None:
        raise ConfigurationError("Neither weights with a cohort nor predictions with labels were given.", _USAGE)
    _refuse(stray, "weights")
    chosen = read_subsets(subsets) if subsets is not None else list(SUBSETS)

    from anymri.analysis.tables import write_tables
    from anymri.evaluation.metrics import DEFAULT
    from anymri.evaluation.runner import evaluate, seen_in_training

    with case_progress(console, "evaluating") as progress:
        found = evaluate(
            weights, data, output, scheme, device, progress, subsets=chosen, metrics=metrics if metrics else DEFAULT
        )
    console.print(write_tables(output, found.metrics), markup=False, soft_wrap=True)
    if known := seen_in_training(found.metrics, found.card):
        console.print(f"These weights were trained on {len(known)} of the cases: their scores are no test.")
    console.print(f"{output / 'table.md'}", soft_wrap=True)


def evaluate_predictions(
    console: Console,
    predictions: Path | None,
    labels: Path | None,
    output: Path,
    scheme: str | None,
    prediction_scheme: str | None,
    name: str | None,
    subsets: str | None,
    metrics: Sequence[str] | None,
    stray: Mapping[str, object],
) -> None:
    """Scores masks and prints the table; `stray` are options that only weights take."""
    if predictions is None or labels is None:
        raise ConfigurationError("Predictions and labels belong together.", _USAGE)
    _refuse(stray, "predictions")
    if scheme is None:
        raise ConfigurationError("Nothing says what the label values mean.", "Name their scheme with --label-scheme.")
    chosen = read_subsets(subsets) if subsets is not None else [ALL]
    if len(chosen) > 1:
        raise ConfigurationError(
            "One folder of predictions was made from one subset, and --subsets names more.",
            "Name the one, or give a folder with a folder of predictions for each subset, named as in T1c+FLAIR.",
        )

    from anymri.analysis.tables import write_tables
    from anymri.evaluation.metrics import DEFAULT
    from anymri.evaluation.scoring import score_masks

    with case_progress(console, "evaluating") as progress:
        scores = score_masks(
            predictions,
            labels,
            output,
            scheme,
            prediction_scheme,
            progress,
            name=name,
            subset=chosen[0],
            metrics=metrics if metrics else DEFAULT,
        )
    console.print(write_tables(output, scores), markup=False, soft_wrap=True)
    console.print(f"{output / 'table.md'}", soft_wrap=True)


def read_subsets(text: str) -> list[Subset]:
    """`T1c+FLAIR,FLAIR` as subsets, in the order of the tables."""
    wanted = {Subset.parse(word) for word in text.split(",") if word.strip()}
    if not wanted:
        raise ConfigurationError("--subsets names none.", "Name some of the 15, as in T1c+FLAIR,FLAIR.")
    return [subset for subset in SUBSETS if subset in wanted]


def _refuse(stray: Mapping[str, object], what: str) -> None:
    for option, value in stray.items():
        if value is not None:
            raise ConfigurationError(f"{option} does not go with {what}.", _USAGE)
