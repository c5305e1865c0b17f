"""Tutorials: every code block runs, in order, in an empty folder."""

import pytest

from documents import ROOT, run_page
from prepare.raw_phantoms import HEADERS, write_dicom

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_block_of_a_tutorial_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYMRI_CACHE", str(tmp_path / ".cache"))
    if page.stem == "first-mask":
        for modality in HEADERS:
            write_dicom(tmp_path / "STUDY", modality)
    run_page(page)
