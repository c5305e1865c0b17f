"""`anymri cite`: BibTeX of systems and of anymri."""

from __future__ import annotations

from typing import Annotated

import typer


def cite(
    systems: Annotated[list[str], typer.Argument(metavar="SYSTEM...", help="Names of systems; list: anymri systems.")],
) -> None:
    """Print the BibTeX of systems and of anymri."""
    from anymri.systems.citation import paper_bibtex, software_bibtex
    from anymri.systems.registry import card

    entries = []
    for name in dict.fromkeys(systems):
        paper = card(name).paper
        # Text outside entries is a comment in BibTeX.
        entries.append(paper_bibtex(name, paper) if paper else f"{name}: its card names no paper.")
    print("\n\n".join([*entries, software_bibtex()]))  # noqa: T201  for a file, unwrapped
