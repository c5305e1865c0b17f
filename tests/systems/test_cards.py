"""Papers, citations and evidence of the cards."""

import json
import re
from pathlib import Path

import pytest
import yaml

from anymri import __version__
from anymri.systems import citation, registry
from anymri.systems.card import VERIFIABLE, Paper
from anymri.training.configuration import resolve_recipe
from cli.command import anymri, check_refused

ROOT = Path(__file__).parents[2]
PARITY = ROOT / "tests" / "parity"
BUILT_IN = [name for name in registry.names() if (ROOT / "src" / "anymri" / "systems" / name).is_dir()]
PUBLISHED = [name for name in BUILT_IN if registry.card(name).paper]
EVIDENCE = [(name, what) for name in PUBLISHED for what in registry.card(name).verified]
TRAJECTORIES = {path.stem.removeprefix("trajectory_") for path in PARITY.glob("fixtures/trajectories/*.json")}


def entries(bibtex):
    """Return key -> fields of BibTeX; fail on text that is not an entry, and on braces that are not closed."""
    found = {}
    for entry in bibtex.strip().split("\n\n"):
        key, *lines = entry.splitlines()
        kind = re.fullmatch(r"@(inproceedings|misc)\{([a-z0-9_]+),", key)
        assert kind and lines.pop() == "}" and kind[2] not in found, entry
        fields = [re.fullmatch(r"  ([a-z]+) = \{(.*)\},", line) for line in lines]
        assert all(fields) and entry.count("{") == entry.count("}"), entry
        found[kind[2]] = {field[1]: field[2].removeprefix("{").removesuffix("}") for field in fields}
    return found


def test_all_systems_but_the_baseline_have_a_paper_and_a_year_of_data():
    assert {*BUILT_IN} - {*PUBLISHED} == {"unet_dropout"}
    assert {registry.card(name).data_year for name in PUBLISHED} == {2018, 2023, 2024}
    assert all(f"BraTS {card.data_year}" in card.data for card in map(registry.card, PUBLISHED))


@pytest.mark.parametrize("name", BUILT_IN)
def test_cards_list_the_recipes_and_the_first_is_the_default(name):
    recipes = registry.spec(name).recipes
    assert registry.card(name).recipes == tuple(recipes)
    assert recipes[registry.card(name).recipes[0]] == resolve_recipe(name, None)


def test_citations_of_all_systems_are_bibtex_with_a_key_each():
    found = entries(anymri("cite", *PUBLISHED, "u_hved").stdout)
    assert len(found) == len(PUBLISHED) + 1
    for name in PUBLISHED:
        (key,) = (key for key in found if re.fullmatch(rf"[a-z]+\d{{4}}{name}", key))
        paper, fields = registry.card(name).paper, found[key]
        assert fields["title"] == paper.title and paper.venue in citation.PROCEEDINGS
        assert len(fields["author"].split(" and ")) == len(paper.authors) + paper.and_others


def test_citation_of_anymri_is_that_of_the_citation_file():
    stated = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (fields,) = entries(citation.software_bibtex()).values()
    assert fields == {
        "author": stated["authors"][0]["name"],
        "title": stated["title"],
        "note": f"Version {__version__}, {stated['license']}",
    }


def test_cite_states_that_a_system_has_no_paper_and_refuses_unknown_names():
    shown = anymri("cite", "unet_dropout").stdout
    assert shown.startswith("unet_dropout: its card names no paper.") and "@misc{anymri," in shown
    check_refused(anymri("cite", "u_hved", "im_fus"), "im_fuse")


def test_paper_is_shown_in_full_and_in_short():
    paper = Paper(authors=("Ann Lee", "Bo Ek"), and_others=True, title="T", venue="CVPR", year=2020, arxiv="1.2")
    assert str(paper) == "Ann Lee, Bo Ek and others: T. CVPR 2020, arXiv 1.2"
    assert paper.short == "Lee et al., CVPR 2020"


def test_systems_shows_authors_and_evidence_of_a_system(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    shown = anymri("systems", "mam").stdout
    assert "Zhilin Zeng, Zelin Peng" in shown and "data year\n  2023\n" in shown
    assert "6 optimiser steps" in shown and "trajectory_mam.json)" in shown


@pytest.mark.parametrize("name", PUBLISHED)
def test_single_passes_of_every_published_system_are_verified(name):
    verified = registry.card(name).verified
    assert {"forward", "losses", "gradients"} <= verified.keys() <= {*VERIFIABLE}
    assert ("trajectory" in verified) == (name in TRAJECTORIES)


@pytest.mark.parametrize(("name", "what"), EVIDENCE)
def test_fixture_named_as_evidence_is_compared_by_a_parity_test(name, what):
    evidence = registry.card(name).verified[what]
    path = ROOT / evidence.fixture
    fixture = json.loads(path.read_text(encoding="utf-8"))
    if what == "trajectory":
        tests = (PARITY / "test_trajectories.py").read_text(encoding="utf-8")
        assert re.search(rf'^    "{name}": ', tests, re.MULTILINE)
        assert evidence.how.startswith(f"{fixture['steps']} optimiser steps")
    else:
        assert f'"{path.stem}"' in (PARITY / f"test_{path.stem}.py").read_text(encoding="utf-8")


def test_document_on_fidelity_has_the_tolerances_of_the_trajectories():
    document = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines()]
    stated = {row[0]: row for row in rows if row[0] in PUBLISHED and len(row) == 6}
    assert [*stated] == PUBLISHED
    for name, (*_, trajectory, protocol) in stated.items():
        assert (protocol == "none") == ("test protocol" not in registry.card(name).verified)
        if name not in TRAJECTORIES:
            assert trajectory == "none"
            continue
        fixture = json.loads((PARITY / f"fixtures/trajectories/trajectory_{name}.json").read_text(encoding="utf-8"))
        steps, tolerances = trajectory.split(" steps: ")
        expected = [fixture["tolerance"][key] for key in ("loss_rel", "moved_rel")]
        assert int(steps) == fixture["steps"] and [float(each) for each in tolerances.split(", ")] == expected
