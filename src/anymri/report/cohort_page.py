"""The page of a segmented cohort: what failed, and one line per case with its volumes and warnings.

It shows the names of cases, which the user chose, and no names of files or folders, because these can be names of
patients; failures.json has the whole text of each error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anymri.files import write_text
from anymri.report.pages import render
from anymri.report.redaction import sentence
from anymri.text import visible

# Pages of a case, of which the first that exists is linked.
_PAGES = ("report.html", "case.html")
# Cases that a page has: browsers show longer tables slowly.
MOST_CASES = 5000
_VOLUMES = ("WT", "TC", "ET", "RC")


def write_cohort_page(path: Path, title: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, str]) -> Path:
    """Write the page of a cohort beside the folders of its cases, and return its path.

    rows   one per case: `case`, `status` (segmented or failed), `modalities`, `WT_ml` and so on, `warnings`, separated
           by " | ", `error`, and `files`: role -> file, whose names are not shown
    facts  name -> value, shown at the end: weights, versions
    """
    failed = [row for row in rows if row["status"] == "failed"]
    done = [row for row in rows if row["status"] != "failed"]
    regions = [region for region in _VOLUMES if any(row.get(f"{region}_ml") is not None for row in done)]
    page = render(
        "cohort.html.j2",
        title=title,
        summary=_summary(len(done), len(failed), sum(bool(row.get("warnings")) for row in done)),
        failed=[{"name": visible(str(row["case"])), "error": _shown(str(row.get("error")), row)} for row in failed],
        regions=regions,
        cases=[_case(row, regions, path.parent) for row in done[:MOST_CASES]],
        hidden=max(len(done) - MOST_CASES, 0),
        facts={name: visible(value) for name, value in facts.items()},
    )
    write_text(path, page)
    return path


def _summary(done: int, failed: int, noted: int) -> list[str]:
    every = done + failed
    sentences = [f"{done} of {every} {'case was' if every == 1 else 'cases were'} segmented; {failed} failed."]
    if noted:
        sentences.append(f"{noted} of the segmented cases {'has' if noted == 1 else 'have'} warnings.")
    return sentences


def _case(row: Mapping[str, Any], regions: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return what the line of a segmented case shows."""
    name = str(row["case"])
    page = next((each for each in _PAGES if (folder / name / each).is_file()), None)
    notes = [note for note in str(row.get("warnings") or "").split(" | ") if note]
    return {
        "name": visible(name),
        "link": None if page is None else f"{quote(name)}/{page}",
        "modalities": str(row.get("modalities") or ""),
        "volumes": [_ml(row.get(f"{region}_ml")) for region in regions],
        "notes": [_shown(note, row) for note in notes],
    }


def _shown(text: str, row: Mapping[str, Any]) -> str:
    return sentence(text, {role: {"file": file} for role, file in (row.get("files") or {}).items()})


def _ml(volume: object) -> str:
    return f"{volume:.1f}" if isinstance(volume, int | float) else ""
