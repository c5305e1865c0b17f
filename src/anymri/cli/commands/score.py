"""`anymri score`: metrics of the label maps of any tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.console import console, print_evaluation
from anymri.cli.options import Metrics, Output, comma_separated


def score(
    predictions: Annotated[
        Path, typer.Argument(help="Folder of label maps; or of such folders, named by subset (T1c+FLAIR).")
    ],
    *,
    labels: Annotated[Path, typer.Option(help="Labelled cohort, or a folder of label maps.")],
    label_scheme: Annotated[str, typer.Option(help="Label scheme of the labels, e.g. brats2023.")],
    output: Output,
    prediction_scheme: Annotated[
        str | None, typer.Option(help="Label scheme of the predictions; default: that of the labels.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the tool, for tables; default: the name of the folder.")
    ] = None,
    subset: Annotated[
        str, typer.Option(help="Subset that the predictions were made from, if folder names do not say it.")
    ] = "T1+T1c+T2+FLAIR",
    metrics: Metrics = None,
) -> None:
    """Score the label maps of any tool against labels.

    Writes the same folder as `anymri evaluate`, for the tables, plots and reports of both.
    """
    from anymri.cli.progress import case_progress
    from anymri.evaluation.metrics import DEFAULT
    from anymri.evaluation.scoring import score as score_predictions

    with case_progress(console, "scoring") as progress:
        evaluation = score_predictions(
            predictions,
            labels,
            output,
            label_scheme,
            prediction_scheme,
            progress,
            name=name,
            subset=subset,
            metrics=comma_separated(metrics) if metrics else DEFAULT,
        )
    print_evaluation(evaluation)
