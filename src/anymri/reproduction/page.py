"""The page of a reproduction: our results, the published ones beside them, and what may be concluded."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from anymri.analysis.comparison import compare, subset_grid
from anymri.analysis.published import Published, published
from anymri.analysis.reading import StoredEvaluation, read_evaluation, read_run
from anymri.analysis.statistics import CONFIDENCE
from anymri.files import write_text
from anymri.inference.device import pick_device
from anymri.report.pages import html_table, learning_curve, render
from anymri.reproduction.needs import Needs
from anymri.reproduction.plan import FULL_PRECISION, RECIPE, Plan
from anymri.reproduction.run import PROTOCOLS, configuration, evaluation_folder
from anymri.reproduction.verdict import Verdict, subset_differences, verdict_grid, verdicts
from anymri.systems.protocol import ANYMRI, REFERENCE
from anymri.systems.recipes.sources import OUR_SPLIT
from anymri.systems.registry import spec
from anymri.text import count, duration


def write_page(plan: Plan, needs: Needs) -> tuple[Path, list[Verdict]]:
    """Write the page of a finished reproduction, and return it and the verdicts."""
    found = {protocol: read_evaluation(evaluation_folder(plan, protocol)) for protocol in PROTOCOLS}
    metric, quoted, others = _metric(plan), *_published(plan)
    metrics = found[REFERENCE].metrics
    compared = verdicts(metrics, metric, quoted)
    page = render(
        "reproduction.html.j2",
        title=_title(plan),
        warnings=_warnings(plan),
        summary=_summary(plan, quoted, found[REFERENCE]),
        verdicts=html_table(verdict_grid(compared, metric, quoted, _no_meaning(plan))),
        meaning=_meaning(plan),
        subsets=[
            html_table(subset_differences(metrics, metric, quoted)),
            *_tables(plan, found[REFERENCE], sorted(found[REFERENCE].metric_names - {metric}), quoted),
        ],
        fair=_tables(plan, found[ANYMRI], sorted(found[ANYMRI].metric_names), quoted),
        facts=plan.facts() | _taken(plan, needs),
        learning_curve=learning_curve(plan.run),
        differences=_differences(plan),
        others=[note for each in others for note in each.notes("dice")],
        provenance={
            f"Test by the protocol {name}": json.dumps(each.provenance, indent=2, ensure_ascii=False)
            for name, each in found.items()
        },
        created=max(str(each.provenance.get("created", "")) for each in found.values()),
    )
    file = plan.output / "reproduction.html"
    write_text(file, page)
    return file, compared


def _metric(plan: Plan) -> str:
    """Return the metric that is compared: the first one that the authors report."""
    protocol = spec(plan.card.name).protocol
    return protocol.metrics[0] if protocol else "dice"


def _published(plan: Plan) -> tuple[Published | None, list[Published]]:
    """Return the published results for the data set of the recipe, and the other ones of the system."""
    own = [each for each in published().values() if each.system == plan.card.name]
    same = [each for each in own if str(plan.card.data_year) in re.findall(r"\d{4}", each.cohort)]
    return (same[0] if same else None), [each for each in own if each not in same[:1]]


def _title(plan: Plan) -> str:
    if plan.scale == "small":
        return f"A first look at {plan.card.name}, not a reproduction"
    return f"{plan.card.name} on {plan.data.name}{'' if plan.is_reproduction else ', not a reproduction'}"


def _no_meaning(plan: Plan) -> str:
    """Return why published values cannot be compared with; empty if they can."""
    if plan.scale == "small":
        return "small scale"
    return "" if plan.is_reproduction else "other data"


def _warnings(plan: Plan) -> list[str]:
    """Return why this is not a reproduction, if so."""
    if plan.scale == "small":
        return [
            f"This is not a reproduction. It shows the path at small scale: {count(plan.steps, 'step')} with a small "
            f"network and small crops. The numbers say nothing about {plan.card.name}; published values only show "
            "their place."
        ]
    if not plan.is_reproduction:
        return [f"This is not a reproduction: {plan.notes[0]}"]
    return []


def _summary(plan: Plan, quoted: Published | None, evaluation: StoredEvaluation) -> list[str]:
    cases = count(evaluation.metrics["case"].nunique(), "test case")
    sentences = [
        f"{plan.card.name} was trained by the recipe reference ({count(plan.steps, 'step')}, one run with one seed), "
        f"and tested on {cases} with all 15 subsets of T1, T1c, T2 and FLAIR, as its authors test and by the protocol "
        "of anymri."
    ]
    if quoted is None:
        sentences.append(f"Results of {plan.card.name} on BraTS {plan.card.data_year} are not in our sources.")
    elif not quoted.rows and not quoted.printed_means:
        sentences.append("Published is one mean over the 15 subsets and three regions, without values per region.")
    return sentences


def _meaning(plan: Plan) -> list[str]:
    """Return what the verdicts say and what they do not."""
    sentences = [
        f"A verdict says where the published mean is relative to the {CONFIDENCE:.0%} bootstrap interval of ours. The "
        "interval shows how much our mean would change if other test cases of the same kind were drawn, and nothing "
        "else.",
        "It does not contain the differences between two trainings: ours is one run with one seed, and so is, as far "
        "as is known, the published one. The published value has an interval too, which is not published.",
        "Inside does not show that the results are equal. Above and below do not show that the paper or this code is "
        "wrong: other cases, another split, seed or checkpoint also change a mean. Intervals over few cases are too "
        "narrow.",
    ]
    if plan.lists.is_ours:
        sentences.append("The test cases are not those of the authors, because the split is ours.")
    return sentences


def _tables(plan: Plan, evaluation: StoredEvaluation, metrics: Sequence[str], quoted: Published | None) -> list[Markup]:
    """Return the table of 15 rows of each metric, with what is published beside it."""
    return [
        html_table(
            subset_grid(
                compare({plan.card.name: evaluation}, metric), [quoted] if quoted and quoted.has(metric) else []
            )
        )
        for metric in metrics
    ]


def _taken(plan: Plan, needs: Needs) -> dict[str, str]:
    log, _ = read_run(plan.run)
    recipe = configuration(plan).recipe
    return {
        "Device": f"{pick_device(plan.configuration.device)}, precision {recipe.precision}",
        "Planned": f"{duration(needs.seconds)} of steps, as measured before the training",
        "Taken": f"{duration(float(log['seconds'].sum()))} of steps, without validation and test",
        "Seed": str(recipe.seed),
    }


def _differences(plan: Plan) -> Sequence[str]:
    """Return what differs in data, machine, training and test."""
    system, recipe = spec(plan.card.name), configuration(plan).recipe
    # A run that began on a CPU keeps its precision on a GPU.
    precision = [FULL_PRECISION] if recipe.precision != system.recipes[RECIPE].precision else []
    deviations = [each for each in recipe.deviations if each != OUR_SPLIT]  # `lists.source` says it
    tested = system.protocol.differences if system.protocol else ()
    return list(dict.fromkeys([*plan.notes, *precision, plan.lists.source, *deviations, *tested]))
