"""The files of the page: the vendored viewer is the published one, and nothing makes markup of text."""

import re
from pathlib import Path

import anymri.studio
from anymri.files import sha256

ASSETS = Path(anymri.studio.__file__).parent / "assets"
MODULES = sorted(ASSETS.glob("*.js"))
VIEWER = ASSETS / "niivue.umd.js"
# What turns text into markup or code.
UNSAFE = re.compile(
    r"innerHTML|outerHTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://(?!www\.w3\.org/)"
)


def test_the_viewer_is_the_published_file_that_its_licence_names():
    assert sha256(VIEWER) in (ASSETS / "NIIVUE-LICENSE").read_text(encoding="utf-8")


def test_no_module_makes_markup_of_text_or_names_another_host():
    for module in MODULES:
        if module != VIEWER:
            assert not UNSAFE.search(module.read_text(encoding="utf-8")), module.name


def test_the_page_has_no_inline_script_or_style():
    page = (ASSETS / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    assert set(re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', page)) == {
        "/assets/studio.css",
        "/assets/niivue.umd.js",
        "/assets/main.js",
    }
