"""`anymri evaluate`: metrics of weights on a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.console import console, print_evaluation, print_lane
from anymri.cli.options import Device, Lane, Output, comma_separated
from anymri.errors import ConfigurationError
from anymri.modalities import SUBSETS, Subset


def evaluate(
    weights: Annotated[Path, typer.Argument(help="Run folder, .safetensors file, or name of installed weights.")],
    *,
    data: Annotated[Path, typer.Option(help="Labelled cohort: a folder or a CSV manifest.")],
    output: Output,
    label_scheme: Annotated[
        str | None, typer.Option(help="Label scheme of the cohort; default: that of the weights.")
    ] = None,
    subsets: Annotated[
        str | None, typer.Option(help="Comma-separated subsets, e.g. T1c+FLAIR,FLAIR; default: all 15.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Comma-separated metric names; default: those of the protocol.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="How it is tested: anymri, or reference, as the system's authors test.")
    ] = "anymri",
    device: Device = "auto",
    lane: Lane = "torch",
) -> None:
    """Evaluate weights on a cohort, for all 15 subsets.

    Writes metrics.csv and the table of 15 rows. The same command continues an interrupted evaluation.
    """
    from anymri.cli.progress import case_progress

    chosen = SUBSETS if subsets is None else read_subsets(subsets)
    from anymri.evaluation.runner import evaluate as run_evaluation
    from anymri.inference.segmenter import Segmenter

    segmenter = Segmenter.load(weights, device, lane)
    print_lane(lane, segmenter)
    with case_progress(console, "evaluating") as progress:
        evaluation = run_evaluation(
            segmenter,
            data,
            output,
            label_scheme,
            progress=progress,
            subsets=chosen,
            metrics=comma_separated(metrics) if metrics else None,
            protocol=protocol,
        )
    print_evaluation(evaluation)
    if seen := evaluation.seen_in_training:
        console.print(f"The weights were trained on {len(seen)} of these cases, so the metrics are not test results.")


def read_subsets(text: str) -> list[Subset]:
    """Return comma-separated subsets, as in `T1c+FLAIR,FLAIR`, in the order of the tables."""
    wanted = {Subset.parse(word) for word in comma_separated(text)}
    if not wanted:
        raise ConfigurationError("--subsets is empty.", "Name some of the 15, as in --subsets T1c+FLAIR,FLAIR")
    return [subset for subset in SUBSETS if subset in wanted]
