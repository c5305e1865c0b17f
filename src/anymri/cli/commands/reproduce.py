"""`anymri reproduce`: a published training again, and its results beside the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anymri.cli.console import console
from anymri.cli.options import Device, Output, SystemName
from anymri.cli.results.studies import RegionVerdict, Reproduction

if TYPE_CHECKING:
    from anymri.reproduction.needs import Needs
    from anymri.reproduction.plan import Plan


def reproduce(
    system: SystemName,
    *,
    data: Annotated[Path, typer.Option(help="BraTS training cases: a folder or a CSV manifest.")],
    output: Output,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and write nothing.")] = False,
    scale: Annotated[Literal["full", "small"], typer.Option(help="full; or small, a first look in minutes.")] = "full",
    lists: Annotated[
        Path | None, typer.Option(help="Folder with the authors' lists train*, val*, test*; default: a split of ours.")
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Continue with data of another year, or unknown.")] = False,
    label_scheme: Annotated[
        str | None, typer.Option(help="Label scheme of the cohort; default: that of the data set.")
    ] = None,
    device: Device = "auto",
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of preprocessed cases; default: patches in $ANYMRI_CACHE or the user's cache."),
    ] = None,
) -> Reproduction:
    """Repeat a published training and compare the results.

    Trains by the recipe `reference`, tests as the authors do, and writes OUTPUT/reproduction.html. The same command
    continues after an interruption.
    """
    from anymri.cli.checks import check_computation
    from anymri.data.layouts import check_exists
    from anymri.extras import need
    from anymri.files import check_writable
    from anymri.systems.registry import card

    card(system)
    check_exists(data)
    check_computation(device)
    check_writable(output)
    need("train", "lightning", "monai", "tensorboard", purpose="A reproduction")
    need("report", "pandas", "matplotlib", "jinja2", purpose="The page of a reproduction")
    from anymri.cli.progress import working
    from anymri.reproduction.needs import measure
    from anymri.reproduction.plan import make_plan

    plan = make_plan(
        system,
        data,
        output,
        scale=scale,
        lists=lists,
        scheme=label_scheme,
        anyway=anyway,
        device=device,
        cache=cache,
    )
    if not dry_run:
        return _carry_out(plan)
    with working("measuring the first steps"):
        needs = measure(plan)
    return Reproduction(None, _print_plan(plan, needs), list(plan.notes), [], plan.is_reproduction)


def _carry_out(plan: Plan) -> Reproduction:
    from anymri.cli.progress import TrainingProgress, progress_of
    from anymri.reproduction.page import write_page
    from anymri.reproduction.run import PROTOCOLS, begun, evaluate_by, train

    with begun(plan) as needs:
        facts = _print_plan(plan, needs)
        with TrainingProgress(console) as callback:
            train(plan, callback)
        for protocol in PROTOCOLS:
            with progress_of(f"testing by {protocol}") as progress:
                evaluate_by(plan, protocol, progress)
        page, verdicts = write_page(plan, needs)
    for verdict in verdicts:
        console.print(f"{verdict.region}: mean Dice {100 * verdict.ours.value:.1f} %; {verdict.words}")
    if not plan.is_reproduction:
        console.print("These numbers are not a reproduction, see the page.")
    console.print(f"Page: {page}", soft_wrap=True)
    found = [RegionVerdict(each.region, each.ours.value, each.words) for each in verdicts]
    return Reproduction(page, facts, list(plan.notes), found, plan.is_reproduction)


def _print_plan(plan: Plan, needs: Needs) -> dict[str, str]:
    """Print what is done and what it takes, and return it."""
    from anymri.reproduction.needs import free_space
    from anymri.text import duration

    cache = plan.configuration.cache
    facts = plan.facts() | {
        "Time": f"{duration(needs.seconds)} of steps on this machine (measured), without validation and test",
        "Memory": f"{needs.memory / 1e9:.1f} GB" if needs.memory else "not known",
        "Disk": f"{needs.cache / 1e9:.2f} GB of preprocessed cases in {cache} ({free_space(cache) / 1e9:.0f} GB free)",
        "Output": str(plan.output),
    }
    for name, value in facts.items():
        console.print(f"{name + ':':9} {value}", soft_wrap=True)
    for note in plan.notes:
        console.print(f"Note: {note}", soft_wrap=True)
    return facts
