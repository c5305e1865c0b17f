"""Every command as a function of its options."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    name="anymri",
    help="Segments brain tumours from whichever of T1, T1c, T2 and FLAIR a patient has.",
    epilog="Add --debug to any command for a full traceback.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Weights = Annotated[Path, typer.Option(help="A run folder, or a .safetensors file.")]
Quote = Annotated[list[str] | None, typer.Option(help="Published results to put beside, marked as such. Repeatable.")]
Evaluations = Annotated[list[Path], typer.Argument(help="Folders that anymri evaluate wrote.")]
Scan = Annotated[Path | None, typer.Option(help="A scan: NIfTI, NRRD or MHA.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from anymri._version import __version__

        console.print(__version__)


@app.command()
def systems(
    name: Annotated[str | None, typer.Argument(help="Show one card whole.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Cards as JSON.")] = False,
) -> None:
    """List the systems with their cards."""
    from anymri.systems.registry import card, names

    cards = [card(name)] if name else [card(each) for each in names()]
    if as_json:
        print(json.dumps([asdict(each) for each in cards], indent=2))  # noqa: T201  for other programs, unwrapped
    elif name:
        for key, value in asdict(cards[0]).items():
            console.print(f"[bold]{key.replace('_', ' ')}[/bold]")
            console.print("\n".join(f"  {line}" for line in _lines(value)), markup=False)
    else:
        table = Table("system", "what", "paper", "presets", "parameters", "GMAC, 15 subsets of 128³", box=None)
        for each in cards:
            macs = each.gmacs["15 subsets"]
            table.add_row(
                each.name, each.title, each.paper, ", ".join(each.presets), f"{each.parameters:,}", f"{macs:,.0f}"
            )
        console.print(table)


def _lines(value: object) -> list[str]:
    """A field of a card as lines to print."""
    if isinstance(value, dict):
        return [f"{name}: {_plain(each)}" for name, each in value.items()]
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else [_plain(value)]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


@app.command()
def phantom(
    output: Output,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many cases.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same cohort.")] = 0,
    size: Annotated[int, typer.Option(min=48, max=256, help="Voxels along each side, 1 mm each.")] = 96,
) -> None:
    """Write a cohort of procedural brains with tumours, in BraTS 2023 layout."""
    from anymri.synthesis.phantoms import write_cohort

    cases = write_cohort(output, count, seed=seed, size=size)
    console.print(f"{len(cases)} cases in {output}; label scheme brats2023.")


Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="e.g. epochs=2, network.width=4. Repeatable.")
]


@app.command()
def recipe(
    system: Annotated[str, typer.Argument(help="See: anymri comparison.")],
    name: Annotated[str, typer.Option("--recipe", help="published, nano or another of the system's.")] = "published",
    assignments: Assignments = None,
) -> None:
    """Print a recipe as YAML, with where each number comes from and what departs from there; `train --config` takes it,
    edited or not."""
    from anymri.training.configuration import recipe_to_yaml, resolve_recipe

    print("# Numbers come from `source`, those that `sources` names from there. Sheets: docs/sheets.")  # noqa: T201
    print(recipe_to_yaml(resolve_recipe(system, name, assignments or [])), end="")  # noqa: T201  for a file


@app.command()
def train(
    system: Annotated[str | None, typer.Argument(help="See: anymri comparison. Not needed with --resume.")] = None,
    *,
    output: Output,
    data: Annotated[Path | None, typer.Option(help="Cohort: a folder, or a CSV manifest.")] = None,
    label_scheme: Annotated[str | None, typer.Option(help="What its label values mean, e.g. brats2023.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="published (the default), nano or another of the system's.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with what differs from the recipe.")] = None,
    assignments: Assignments = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where preprocessed cases are kept. Default: $ANYMRI_CACHE or the user's cache.")
    ] = None,
    loggers: Annotated[
        list[str] | None, typer.Option("--logger", help="mlflow or wandb, beside TensorBoard. Repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in the output folder stopped.")] = False,
) -> None:
    """Train a system; weights lie in OUTPUT/checkpoints/best.safetensors and last.safetensors."""
    from anymri.errors import ConfigurationError
    from anymri.training.configuration import resolve
    from anymri.training.launch import Launch
    from anymri.training.run import Run

    console.quiet = Launch.found().number > 0
    run = Run(output)
    if resume:
        system = system or run.configuration().recipe.system
        config = config or (None if recipe else run.config)
    elif system is None:
        raise ConfigurationError("No system was named.", "Name one, as in: anymri train u_hved; see: anymri systems")
    else:
        run.check_new()
    paths = {"data": data and data.absolute(), "cache": cache and cache.absolute()}
    options = {**paths, "label_scheme": label_scheme, "device": device, "loggers": loggers or None}
    configuration = resolve(system, recipe or "published", options, config, assignments or [])
    console.print(configuration.to_yaml(), markup=False, soft_wrap=True)

    from anymri.cli.progress import TrainingProgress
    from anymri.training.engine import train as run_training

    with TrainingProgress(console) as callback:
        run_training(configuration, output, callback, resume, callback.expect)
    console.print(f"Weights: {run.best if run.best.exists() else run.last}")


@app.command()
def segment(
    case: Annotated[Path | None, typer.Argument(help="A case folder; or name scans by the options.")] = None,
    *,
    output: Output,
    weights: Weights,
    t1: Scan = None,
    t1c: Scan = None,
    t2: Scan = None,
    flair: Scan = None,
    brain_mask: Annotated[Path | None, typer.Option(help="Mask of the brain, if the background varies.")] = None,
    subset: Annotated[str | None, typer.Option(help="Use only these modalities, e.g. T1c+FLAIR.")] = None,
    device: Device = "auto",
) -> None:
    """Segment one case from any non-empty set of modalities, in the geometry of its scans."""
    from anymri.inference import segment as run_segmentation

    result = run_segmentation(
        case,
        t1=t1,
        t1c=t1c,
        t2=t2,
        flair=flair,
        brain_mask=brain_mask,
        weights=weights,
        subset=subset,
        device=device,
        output=output,
    )
    volumes = ", ".join(f"{name} {millilitres:.1f} mL" for name, millilitres in result.volumes_ml.items())
    console.print(f"From {result.subset}: {volumes}")
    console.print(f"{output / 'segmentation.nii.gz'}", soft_wrap=True)


@app.command()
def evaluate(
    weights: Annotated[Path | None, typer.Argument(help="A run folder, or a .safetensors file.")] = None,
    *,
    output: Output,
    data: Annotated[Path | None, typer.Option(help="Labelled cohort: a folder, or a CSV manifest.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Label maps of any tool, instead of weights; or such folders named by subset.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="What predictions are held against: a cohort, or a folder of label maps.")
    ] = None,
    label_scheme: Annotated[str | None, typer.Option(help="Of the labels. Default: the one of the weights.")] = None,
    prediction_scheme: Annotated[str | None, typer.Option(help="Of the predictions, if another.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the tool that made the predictions, for tables.")] = None,
    subsets: Annotated[
        str | None, typer.Option(help="Some of the 15, with commas: T1c+FLAIR,FLAIR. Of predictions: their one.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="With commas; a wrong name lists them all. Default: dice,hd95.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Score weights on all 15 subsets, or the masks of any tool: tidy CSV and the table of 15 rows. A second run goes
    on where one stopped."""
    from anymri.cli.evaluation import evaluate_predictions, evaluate_weights

    chosen = metrics.split(",") if metrics is not None else None
    if predictions is not None or labels is not None:
        stray = {"WEIGHTS": weights, "--data": data}
        evaluate_predictions(
            console, predictions, labels, output, label_scheme, prediction_scheme, name, subsets, chosen, stray
        )
    else:
        stray_words = {"--prediction-scheme": prediction_scheme, "--name": name}
        evaluate_weights(console, weights, data, output, label_scheme, subsets, chosen, device, stray_words)


@app.command()
def table(
    evaluations: Evaluations,
    *,
    metric: Annotated[str, typer.Option(help="One that was evaluated.")] = "dice",
    form: Annotated[str, typer.Option("--format", help="markdown, latex (booktabs), csv or html.")] = "markdown",
    quote: Quote = None,
    average: Annotated[bool, typer.Option("--average", help="One row a system, as ablations are shown.")] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Intervals, paired tests and what each modality adds.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file to write; default: print.")] = None,
) -> None:
    """Evaluations side by side: the papers' table of 15 subsets, with the best in bold and significant differences."""
    from anymri.cli.tables import make_table

    text = make_table(evaluations, metric, form, quote or [], average, statistics)
    if output is None:
        print(text, end="")  # noqa: T201  as it is, for a file or another program
    else:
        from anymri.files import write_text

        write_text(output, text)
        console.print(f"{output}", soft_wrap=True)


@app.command()
def plot(
    evaluations: Evaluations,
    *,
    output: Output,
    quote: Quote = None,
) -> None:
    """Draw every plot that evaluations allow, as PNG and SVG: heat maps, Dice by number of modalities, what each
    modality adds, every case, reliability."""
    from anymri.cli.reports import write_plots

    files = write_plots(evaluations, output, quote or [])
    console.print(
        f"{len(files) // 2} plots in {output}: {', '.join(sorted({file.stem for file in files}))}", soft_wrap=True
    )


@app.command()
def report(
    evaluations: Evaluations,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The .html file. Default: report.html in the one evaluation.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    quote: Quote = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Segment the worst and the median case anew, to show them.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Write one self-contained page about evaluations: data, protocol, tables, plots, worst cases, statistics,
    manifests. It opens offline."""
    from anymri.cli.reports import make_report

    console.print(f"{make_report(console, evaluations, output, title, quote or [], pictures, device)}", soft_wrap=True)


@app.command()
def convert(
    system: Annotated[str, typer.Argument(help="See: anymri comparison.")],
    checkpoint: Annotated[Path, typer.Argument(help="The authors' checkpoint (.pth, .pt).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SWITCH=VALUE", help="What a checkpoint does not show. Repeatable."),
    ] = None,
) -> None:
    """Turn the authors' checkpoint into weights for anymri; only tensors are read from it, no code is run."""
    from anymri.training.configuration import read_assignment
    from anymri.weights.convert import convert_checkpoint

    pairs = map(read_assignment, assignments or [])
    convert_checkpoint(system, checkpoint, output, {".".join(keys): value for keys, value in pairs})
    console.print(f"{output}", soft_wrap=True)


@app.command()
def demo(output: Output = Path("demo")) -> None:
    """Phantoms, training, evaluation, segmentation and a report, in a few minutes on two CPU cores."""
    from anymri.cli.demo import run_demo

    run_demo(output, console)
