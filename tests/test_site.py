"""The documentation site builds without a dead link, and loads nothing from the network."""

import os
import re
import subprocess
import sys

import pytest

from documents import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the built site."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ROOT / "mkdocs.yml", "-d", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr  # dead links and pages outside the navigation are warnings, so errors
    return folder


def test_pages_load_nothing_from_the_network(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]* src=\"?(?:https?:)?//", text), page
        assert not re.search(r"<link[^>]* href=\"?(?:https?:)?//", text), page


def test_the_readme_is_the_start_page_and_leads_to_pages(site):
    start = (site / "index.html").read_text(encoding="utf-8")
    assert "tutorials/first-mask.html" in start and "src/anymri/systems" not in start


def test_the_reference_has_arguments_and_examples_of_functions(site):
    page = (site / "reference" / "functions.html").read_text(encoding="utf-8")
    assert "<dt><code>brain_mask</code></dt>" in page
    assert "&gt;&gt;&gt; " in page


def test_tables_and_lists_that_follow_a_line_are_tables_and_lists(site):
    for page in site.rglob("*.html"):
        article = re.search(r"<article.*?</article>", page.read_text(encoding="utf-8"), re.DOTALL)
        prose = re.sub(r"<(pre|code)[^>]*>.*?</\1>", "", article[0] if article else "", flags=re.DOTALL)
        assert not re.search(r"\|\s*---|<p>[^<]*\n- ", prose), page
