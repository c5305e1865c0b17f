"""The page of a cohort: failures, volumes, links, privacy."""

import re

import pytest

from anymri.report.cohort_page import write_cohort_page

DONE = {
    "case": "patient 7",
    "status": "segmented",
    "modalities": "T1c+FLAIR",
    "WT_ml": 41.26,
    "TC_ml": 0.0,
    "ET_ml": None,
    "RC_ml": None,
    "seconds": 3.0,
    "warnings": "the first note. | the second note.",
    "error": None,
    "files": {},
}
FAILED = dict.fromkeys(DONE) | {
    "case": "patient <8>",
    "status": "failed",
    "error": "/data/Doe Jane/t1c.nii.gz cannot be read. Copy it again.",
    "files": {"T1c": "/data/Doe Jane/t1c.nii.gz"},
}


@pytest.fixture
def page(tmp_path):
    def write(*rows):
        write_cohort_page(tmp_path / "summary.html", "Segmentation of a trial", rows, {"anymri": "1.0"})
        return (tmp_path / "summary.html").read_text(encoding="utf-8")

    return write


def test_the_page_counts_cases_and_shows_volumes_and_warnings(page):
    text = page(DONE, FAILED)
    assert "1 of 2 cases were segmented; 1 failed." in text and "1 of the segmented cases has warnings." in text
    assert "<td>41.3</td><td>0.0</td>" in text and "T1c+FLAIR" in text
    assert "The first note. The second note." in text
    assert re.findall(r'<th scope="col">(\w+)</th>', text) == ["WT", "TC"]


def test_failures_are_escaped_and_name_no_file(page):
    text = page(DONE, FAILED)
    assert "patient &lt;8&gt;" in text and "Copy it again." in text and "failures.json" in text
    assert "Jane" not in text and "/data" not in text


def test_without_failures_there_is_no_such_section(page):
    text = page(DONE)
    assert "Failed cases" not in text and "1 of 1 case was segmented; 0 failed." in text


def test_pages_of_cases_are_linked_if_they_exist(page, tmp_path):
    assert "<a href" not in page(DONE)
    (tmp_path / "patient 7").mkdir()
    (tmp_path / "patient 7" / "case.html").write_text("a page")
    assert '<a href="patient%207/case.html">patient 7</a>' in page(DONE)


def test_the_page_runs_no_script_and_loads_nothing(page):
    text = page(DONE, FAILED)
    assert "default-src 'none'" in text and "<script" not in text and "http" not in text.replace("http-equiv", "")
