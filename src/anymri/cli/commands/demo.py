"""`anymri demo`: from training on synthetic brains to a report, small enough for a laptop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from anymri.cli.console import console
from anymri.cli.options import Output
from anymri.cli.results.studies import Demo
from anymri.errors import RunError
from anymri.modalities import SUBSETS
from anymri.text import count

SYSTEM, RECIPE, SCHEME = "unet_dropout", "demo", "brats2023"
TEST_CASES, TEST_SEED = 6, 1
# Shown in the report: all modalities, two missing, and single scans that do well and badly.
SHOWN_SUBSETS = ("T1+T1c+T2+FLAIR", "T1c+FLAIR", "FLAIR", "T1")


def demo(output: Output = Path("demo")) -> Demo:
    """Train, evaluate and report on synthetic brains, in minutes.

    A few minutes on two CPU cores. A second run keeps what the first finished.
    """
    from anymri.extras import need

    need("train", "lightning", "monai", "tensorboard", purpose="The demo")
    need("report", "pandas", "matplotlib", "jinja2", purpose="The demo")
    return run_demo(output)


def run_demo(folder: Path, test_cases: int = TEST_CASES, spacing: float = 1.0, assignments: Sequence[str] = ()) -> Demo:
    """Write a network trained on synthetic brains, its table of 15 subsets, segmentations and `report.html`.

    test_cases   number of synthetic cases to test on
    spacing      side of their voxels in millimetres
    assignments  changes of the recipe, as by `--set`
    """
    from anymri.files import is_unused, locked

    if not is_unused(folder) and not (folder / "test-cohort").exists():
        raise RunError(f"{folder} is not empty and is not a demo.", "Choose another folder with -o.")
    with locked(folder):
        with _timed(f"Writing {count(test_cases, 'synthetic case')} to test on"):
            _write_test_cohort(folder, test_cases, spacing)
        with _timed(f"Training {SYSTEM} on others, which are made in training"):
            _train(folder, assignments)
        with _timed(f"Evaluating {len(SUBSETS)} subsets on {count(test_cases, 'held-out case')}"):
            table = _evaluate(folder)
        with _timed("Segmenting a held-out case and writing the report"):
            report = _report(folder, test_cases)
    console.print()
    console.print(table, soft_wrap=True)
    console.print(f"Report: {report}", soft_wrap=True)
    return Demo(folder, folder / "run", folder / "evaluation", report)


def _write_test_cohort(folder: Path, test_cases: int, spacing: float) -> None:
    from anymri.synthesis.phantoms import write_cohort

    write_cohort(folder / "test-cohort", test_cases, seed=TEST_SEED, style="realistic", spacing=spacing, easy=True)


def _train(folder: Path, assignments: Sequence[str]) -> None:
    from anymri.cli.progress import TrainingProgress
    from anymri.training.configuration import SYNTHETIC, resolve
    from anymri.training.engine import train
    from anymri.training.run import Run

    options = {"data": SYNTHETIC, "label_scheme": SCHEME, "device": "cpu"}
    configuration = resolve(SYSTEM, RECIPE, options, assignments=assignments)
    run = folder / "run"
    with TrainingProgress(console) as callback:
        train(configuration, run, callback, resume=Run(run).config.exists())


def _evaluate(folder: Path) -> str:
    from anymri.analysis.tables import write_tables
    from anymri.cli.progress import progress_of
    from anymri.evaluation.runner import evaluate

    output = folder / "evaluation"
    with progress_of("evaluating") as progress:
        evaluation = evaluate(folder / "run", folder / "test-cohort", output, device="cpu", progress=progress)
    return write_tables(output, evaluation.metrics)


def _report(folder: Path, test_cases: int) -> Path:
    from anymri.analysis.reading import read_evaluations
    from anymri.data.layouts import find_cases
    from anymri.inference import Segmenter
    from anymri.regions import label_scheme
    from anymri.report.cases import case_montage
    from anymri.report.pages import Examples, write_report

    case = find_cases(folder / "test-cohort")[0]
    segmenter = Segmenter.load(folder / "run", "cpu")
    segmentations = {subset: folder / "segmentations" / subset for subset in SHOWN_SUBSETS}
    for subset, output in segmentations.items():
        segmenter.segment(case, subset, output)
    picture = case_montage(case, label_scheme(SCHEME), segmentations)
    caption = f"{case.name}, a held-out synthetic case: its label map, and the segmentations of four subsets."
    return write_report(
        folder / "report.html",
        "anymri demo",
        read_evaluations([folder / "evaluation"]),
        run=folder / "run",
        examples=[Examples("Segmentations", pictures={caption: picture})],
        facts={
            "Cases": f"{test_cases} synthetic brains with tumours; the network was trained on others, made in training",
            "Training": f"{SYSTEM}, recipe {RECIPE}, on the CPU",
        },
    )


@contextmanager
def _timed(what: str) -> Iterator[None]:
    console.print(what, style="bold")
    began = time.monotonic()
    yield
    console.print(f"  done in {time.monotonic() - began:.0f} s")
