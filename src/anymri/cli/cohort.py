"""Segmentation of a cohort on the command line: progress, messages, the page, the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.cli.console import console, print_lane
from anymri.cli.results.cases import CohortSegmentation, FailedCase

if TYPE_CHECKING:
    from anymri.data.sources import Source
    from anymri.inference.cohort import CohortOutcome


def segment_many(
    cohort: Path | Sequence[Source],
    output: Path,
    weights: Sequence[Path],
    *,
    shard: str | None = None,
    work: Mapping[str, Any] | None = None,
    **settings: Any,
) -> CohortSegmentation:
    """Segment the cases of a cohort, print how they ended and return it.

    cohort    its folder or CSV manifest, or its cases
    shard     as "2/8"
    work      fields of `anymri.inference.cohort_work.Work`
    settings  further arguments of `segment_cohort`: device, lane, combine, flips, engine, address, workers
    """
    from anymri.cli.progress import progress_of, working
    from anymri.data.sources import Shard
    from anymri.inference.cohort import segment_cohort
    from anymri.inference.cohort_work import Work

    chosen = None if shard is None else Shard.parse(shard)
    model: Any = list(weights)
    if settings.get("lane") == "auto" and settings["engine"] == "local":
        from anymri.inference.ensemble import load_model

        with working("loading the weights"):
            model = load_model(model, *(settings[name] for name in ("device", "lane", "combine", "flips")))
        print_lane("auto", model)
    with progress_of("segmenting") as progress:
        outcome = segment_cohort(
            cohort, output, model, shard=chosen, work=Work(**(work or {})), progress=progress, **settings
        )
    page = write_page(output, weights)
    print_outcome(outcome)
    console.print(f"{page or output / 'summary.csv'}", soft_wrap=True)
    return CohortSegmentation(
        output,
        output / "summary.csv",
        page,
        list(weights),
        list(outcome.segmented),
        list(outcome.kept),
        list(outcome.elsewhere),
        [FailedCase(name, failure.what, failure.fix) for name, failure in outcome.failed.items()],
    )


def print_outcome(outcome: CohortOutcome) -> None:
    """Print how many cases ended how; warnings have named the failed ones."""
    counts = {
        "segmented": len(outcome.segmented),
        "kept": len(outcome.kept),
        "in work elsewhere": len(outcome.elsewhere),
        "failed": len(outcome.failed),
    }
    console.print(", ".join(f"{count} {status}" for status, count in counts.items() if count))


def write_page(output: Path, weights: Sequence[Path]) -> Path | None:
    """Write summary.html and return its path; None without the extra `report`."""
    if find_spec("jinja2") is None or find_spec("matplotlib") is None or find_spec("pandas") is None:
        return None
    from anymri._version import __version__
    from anymri.inference.cohort_summary import read_summary
    from anymri.provenance import name_of_weights
    from anymri.report.cohort_page import write_cohort_page
    from anymri.weights.locate import find_weights

    names = [name_of_weights(find_weights(path).absolute()) for path in weights]
    facts = {"Weights": ", ".join(names), "anymri": __version__}
    title = f"Segmentation of {output.resolve().name}"
    return write_cohort_page(output / "summary.html", title, read_summary(output), facts)
