"""Segmentation of a cohort on the command line: progress, messages, the page, the exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from anymri.cli.console import console, print_lane
from anymri.text import duration, visible

if TYPE_CHECKING:
    from anymri.data.sources import Source
    from anymri.inference.cohort import CohortOutcome

# Exit code if some cases failed.
SOME_FAILED = 3


def segment_many(
    cohort: Path | Sequence[Source],
    output: Path,
    weights: Sequence[Path],
    *,
    shard: str | None = None,
    work: Mapping[str, Any] | None = None,
    **settings: Any,
) -> int:
    """Segment the cases of a cohort, print how they ended and return the exit code: 0, or 3 if some failed.

    cohort    its folder or CSV manifest, or its cases
    shard     as "2/8"
    work      fields of `anymri.inference.cohort_work.Work`
    settings  further arguments of `segment_cohort`: device, lane, combine, flips, engine, address, workers
    """
    from anymri.data.sources import Shard
    from anymri.inference.cohort import segment_cohort
    from anymri.inference.cohort_work import Work

    chosen = None if shard is None else Shard.parse(shard)
    model: Any = list(weights)
    if settings.get("lane") == "auto" and settings["engine"] == "local":
        from anymri.inference.ensemble import load_model

        model = load_model(model, *(settings[name] for name in ("device", "lane", "combine", "flips")))
        print_lane("auto", model)
    with cohort_progress(console) as progress:
        outcome = segment_cohort(
            cohort, output, model, shard=chosen, work=Work(**(work or {})), progress=progress, **settings
        )
    page = write_page(output, weights)
    print_outcome(outcome)
    console.print(f"{page or output / 'summary.csv'}", soft_wrap=True)
    return SOME_FAILED if outcome.failed else 0


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
    from anymri.report.cohort_page import write_cohort_page

    facts = {"Weights": ", ".join(path.name for path in weights), "anymri": __version__}
    title = f"Segmentation of {output.resolve().name}"
    return write_cohort_page(output / "summary.html", title, read_summary(output), facts)


@contextmanager
def cohort_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callback of (case, done, total): a bar on a terminal, otherwise one line per case with the time left."""
    if console.is_terminal:
        from anymri.cli.progress import case_progress

        with case_progress(console, "segmenting") as progress:
            yield progress
        return
    began = time.monotonic()

    def line(name: str, done: int, total: int) -> None:
        if done:
            left = (time.monotonic() - began) / done * (total - done)
            console.print(f"{done}/{total} {visible(name)} ({duration(left)} left)", soft_wrap=True)

    yield line
