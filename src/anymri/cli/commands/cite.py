"""`anymri cite`: BibTeX of systems and of anymri."""

from __future__ import annotations

from typing import Annotated

import typer

from anymri.cli.console import output
from anymri.cli.options import complete_system
from anymri.cli.results.systems import Citations


def cite(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="SYSTEM...", help="Names of systems; list: anymri systems.", autocompletion=complete_system
        ),
    ],
) -> Citations:
    """Print the BibTeX of systems and of anymri."""
    from anymri.systems.citation import paper_bibtex, software_bibtex
    from anymri.systems.registry import card

    entries = []
    for name in dict.fromkeys(systems):
        paper = card(name).paper
        # Text outside entries is a comment in BibTeX.
        entries.append(paper_bibtex(name, paper) if paper else f"{name}: its card names no paper.")
    bibtex = "\n\n".join([*entries, software_bibtex()]) + "\n"
    output.write(bibtex)
    return Citations(bibtex)
