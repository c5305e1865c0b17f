"""BibTeX of the papers of systems, and of anymri."""

from __future__ import annotations

import re
from collections.abc import Mapping

from anymri._version import __version__
from anymri.systems.card import Paper

# Proceedings by the short name of the conference.
PROCEEDINGS = {
    "AAAI": "Proceedings of the AAAI Conference on Artificial Intelligence",
    "ACCV": "Computer Vision -- ACCV",
    "CVPR": "Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    "ISBI": "IEEE International Symposium on Biomedical Imaging",
    "MICCAI": "Medical Image Computing and Computer Assisted Intervention -- MICCAI",
}
# As in CITATION.cff, which is not part of an installed package.
TITLE = "anymri: brain-tumour segmentation from any subset of MRI modalities"
AUTHORS = "The anymri developers"
LICENCE = "Apache-2.0"


def software_bibtex() -> str:
    """Return the BibTeX entry of this version of anymri."""
    # Braces keep the authors one name, and the title in its capitals.
    fields = {"author": f"{{{AUTHORS}}}", "title": f"{{{TITLE}}}", "note": f"Version {__version__}, {LICENCE}"}
    return _entry("misc", "anymri", fields)


def paper_bibtex(system: str, paper: Paper) -> str:
    """Return the BibTeX entry of the paper of a system; its key is author, year and system."""
    family_name = re.sub(r"\W", "", paper.first_author).lower()
    proceedings = PROCEEDINGS.get(paper.venue, paper.venue)
    fields = {
        "author": " and ".join([*paper.authors, *(["others"] if paper.and_others else [])]),
        "title": f"{{{paper.title}}}",
        "booktitle": proceedings,
        "year": str(paper.year),
        "pages": paper.pages.replace("-", "--"),
        "doi": paper.doi,
        "eprint": paper.arxiv,
        "archiveprefix": "arXiv" if paper.arxiv else "",
    }
    return _entry("inproceedings", f"{family_name}{paper.year}{system}", fields)


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
