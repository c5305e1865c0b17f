"""`anymri studio`: cases and evaluations in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.checks import check_computation, check_weights
from anymri.cli.commands.segment import Brain
from anymri.cli.console import console, output
from anymri.cli.options import Device, Lane, complete_scheme, complete_weights
from anymri.cli.results.cases import Served
from anymri.prepare.brain_methods import check_brain_method


def studio(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Cases, results, evaluations, or folders of these.")
    ] = None,
    *,
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Weights to offer; repeatable; default: all installed.", autocompletion=complete_weights),
    ] = None,
    corrections: Annotated[Path, typer.Option(help="Folder for corrected label maps.")] = Path("corrections"),
    label_scheme: Annotated[
        str | None,
        typer.Option(help="Label scheme of expert label maps; default: the weights'.", autocompletion=complete_scheme),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; default: any that is free.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on; another one opens it to the network.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    brain: Brain = "auto",
    device: Device = "auto",
    lane: Lane = "torch",
) -> Served:
    """Show cases in the browser and switch modalities off.

    The page is served by this machine for this machine, at an address that is printed. Nothing leaves the machine.
    """
    import webbrowser

    from anymri.cli.logs import event
    from anymri.cli.settings import settings
    from anymri.data.layouts import check_exists
    from anymri.extras import EXTRAS, need
    from anymri.files import check_writable
    from anymri.regions import label_scheme as find_scheme

    for path in paths or []:
        check_exists(path)
    if label_scheme is not None:
        find_scheme(label_scheme)
    check_computation(device, lane)
    check_brain_method(brain)
    check_weights(weights or [])
    check_writable(corrections)
    need("studio", *EXTRAS["studio"], *EXTRAS["report"], purpose="The studio")
    from anymri.studio.server import Place, run

    place = Place(host, port)
    if not place.is_loopback:
        _warn(host)

    def ready(url: str, once: str) -> None:
        if settings.as_json:
            event("ready", url=url)
        # Printed also with --quiet: without the address there is no studio.
        output.print(f"The studio is at {url}", soft_wrap=True)
        console.print("End it with Ctrl-C.")
        if browser:
            webbrowser.open(once)

    url = run(
        paths or [],
        weights or [],
        corrections,
        label_scheme,
        place,
        {"device": device, "lane": lane, "brain": brain},
        ready,
    )
    return Served(url)


def _warn(host: str) -> None:
    import warnings

    from anymri.errors import AnymriWarning

    warnings.warn(
        f"The studio listens on {host}: other machines can reach it, without encryption. Whoever sees the address with "
        "its token sees the scans. Use it in a network that you trust, or reach 127.0.0.1 through ssh -L.",
        AnymriWarning,
        stacklevel=2,
    )
