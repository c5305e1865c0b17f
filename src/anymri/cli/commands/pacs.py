"""`anymri pacs`: a node that receives studies, segments them and sends the results back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from anymri.cli.console import console, output
from anymri.cli.results.pacs import Checked, Example, NodeEnd, NodeReport, Reached, Retried
from anymri.cli.settings import Command, ComputingCommand, Group, settings
from anymri.errors import OutputError
from anymri.text import count

if TYPE_CHECKING:
    from anymri.pacs.configuration import NodeConfiguration
    from anymri.pacs.database import Database
    from anymri.pacs.node import Node

_SECONDS_OF_A_LOOK = 0.5
_MOST_LINES = 50

Configuration = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file; to write one: anymri pacs example > CONFIG")
]
Study = Annotated[str | None, typer.Argument(help="StudyInstanceUID of one study; default: all.")]

pacs = typer.Typer(cls=Group, help="Segment the studies of a PACS, as one of its nodes.", no_args_is_help=True)


@pacs.command(cls=ComputingCommand)
def run(
    configuration: Configuration,
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits any more.")] = False,
) -> NodeEnd:
    """Receive studies, segment them and send the results until stopped.

    SIGTERM or Ctrl-C stops the node; what it had not finished is continued by the next start.
    """
    from anymri.cli.checks import check_computation, check_weights
    from anymri.cli.used_weights import weights_for
    from anymri.extras import need
    from anymri.prepare.brain_methods import check_brain_method

    need("pacs", "pynetdicom", "dicomweb_client", purpose="A PACS node")
    need("dicom", "pydicom", "highdicom", purpose="A PACS node")
    found = _read(configuration)
    chosen = found.segmentation
    check_computation(chosen.device, chosen.lane)
    check_brain_method(chosen.brain)
    check_weights([] if chosen.weights is None else [chosen.weights])
    (weights,) = weights_for(None if chosen.weights is None else [chosen.weights], None)
    from anymri.pacs.node import Node
    from anymri.weights.locate import find_weights

    node = Node(found, find_weights(weights).absolute(), _show)
    with _stopped_by_signals(node), node:
        while not node.wait(_SECONDS_OF_A_LOOK):
            if once and node.is_idle:
                break
        with closing(_opened(found)) as database:
            return NodeEnd(round(time.time() - node.started, 1), database.counts())


@pacs.command(cls=Command)
def status(configuration: Configuration, study: Study = None) -> NodeReport:
    """List what a node has done, what waits and what failed."""
    from anymri.pacs.status import node_status

    with closing(_opened(_read(configuration))) as database:
        found = node_status(database, study)
    output.print(f"The node is {'running' if found.running else 'not running'}.")
    counts = ", ".join(f"{number} {state}" for state, number in found.studies.items() if number)
    output.print(f"Studies: {counts or 'none'}; {count(found.deliveries, 'result')} not delivered yet.")
    if found.listed:
        table = Table("study", "state", "modalities", "waits for", "reason", box=None)
        for each in found.listed[:_MOST_LINES]:
            reason = f"{each.what} {each.fix}".strip()
            table.add_row(each.study, each.state, "+".join(each.modalities), ", ".join(each.waits_for), reason)
        output.print(table)
    if len(found.listed) > _MOST_LINES:
        output.print(f"and {len(found.listed) - _MOST_LINES} more: --json lists them")
    return NodeReport(**vars(found))


@pacs.command(cls=Command)
def retry(configuration: Configuration, study: Study = None) -> Retried:
    """Try failed segmentations and deliveries again, now."""
    from anymri.pacs.jobs import retry_now

    with closing(_opened(_read(configuration))) as database:
        jobs, deliveries = retry_now(database, study)
    console.print(f"Tried again: segmentations {jobs}, deliveries {deliveries}.")
    return Retried(jobs, deliveries)


@pacs.command(cls=Command)
def check(configuration: Configuration) -> Checked:
    """Check a configuration, and call the programs that it names.

    The exit code is 3 if one of them cannot be reached.
    """
    from anymri.cli.checks import check_weights
    from anymri.extras import need

    need("pacs", "pynetdicom", "dicomweb_client", purpose="A PACS node")
    found = _read(configuration)
    check_weights([] if found.segmentation.weights is None else [found.segmentation.weights])
    from anymri.pacs.configuration import Destination
    from anymri.pacs.sender import DeliveryError, echo

    services = [Destination(name=f"poll-{n}", web=rule) for n, rule in enumerate(found.poll, 1)]
    calling = "ANYMRI" if found.receive is None else found.receive.ae_title
    peers = []
    for each in (*found.send, *services):
        try:
            echo(each, calling)
            peers.append(Reached(each.name, None))
        except DeliveryError as error:
            peers.append(Reached(each.name, str(error)))
        output.print(f"{each.name}: {peers[-1].problem or 'answers'}", soft_wrap=True)
    return Checked(peers)


@pacs.command(cls=Command)
def example() -> Example:
    """Print a configuration with all fields and their meaning."""
    from importlib.resources import files

    text = files("anymri.pacs").joinpath("example.yaml").read_text(encoding="utf-8")
    output.write(text)
    return Example(text)


def _read(file: Path) -> NodeConfiguration:
    from anymri.pacs.configuration import read_configuration

    return read_configuration(file)


def _opened(configuration: NodeConfiguration) -> Database:
    """Return the database of a node; raise `OutputError` if the node never ran."""
    from anymri.pacs.database import FILE
    from anymri.pacs.node import open_database

    if not (configuration.folder / FILE).is_file():
        raise OutputError(
            f"{configuration.folder} has no queue: no node has run there.", "Start it: anymri pacs run CONFIG"
        )
    return open_database(configuration.folder)


@contextmanager
def _stopped_by_signals(node: Node) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: node.stop())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(kind: str, **values: Any) -> None:
    """Print an event of the node, or write it as JSON on stderr."""
    if settings.as_json:
        from anymri.cli.logs import event

        event(kind, **values)
    else:
        text = ", ".join(
            f"{name} {'+'.join(value) if isinstance(value, list) else value}" for name, value in values.items()
        )
        console.print(f"{time.strftime('%H:%M:%S')} {kind}: {text}", soft_wrap=True)
