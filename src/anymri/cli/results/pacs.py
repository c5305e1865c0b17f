"""What commands about a PACS node return."""

from __future__ import annotations

from dataclasses import dataclass

from anymri.cli.results import DONE, PARTLY_DONE, Result
from anymri.pacs.status import NodeStatus


@dataclass(frozen=True)
class NodeEnd(Result):
    """The end of a node that was stopped, or that had nothing more to do.

    seconds  time that it ran
    studies  state -> number of jobs; receiving: number of studies that wait to be quiet
    """

    seconds: float
    studies: dict[str, int]


@dataclass(frozen=True)
class NodeReport(NodeStatus, Result):
    """The status of a node."""


@dataclass(frozen=True)
class Retried(Result):
    """What is tried again: failed segmentations, and deliveries that did not arrive."""

    jobs: int
    deliveries: int


@dataclass(frozen=True)
class Reached:
    """A destination or service: why it does not answer; null if it does."""

    name: str
    problem: str | None


@dataclass(frozen=True)
class Checked(Result):
    """A configuration that was checked, with the programs that it names."""

    peers: list[Reached]

    @property
    def exit_code(self) -> int:
        """Exit code: 3 if some do not answer."""
        return PARTLY_DONE if any(each.problem for each in self.peers) else DONE


@dataclass(frozen=True)
class Example(Result):
    """A configuration with all fields, as YAML."""

    text: str
