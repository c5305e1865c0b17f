"""Hooks of mkdocs: pages from outside `docs`, links that lead out of it, and Markdown as on GitHub."""

from __future__ import annotations

import re
import tomllib
from os.path import normpath, relpath
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
# File of the repository -> page of the site.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
# Code, in which nothing is a link; or a link with its text and its target.
CODE_OR_LINK = re.compile(r"^```.*?^```|`[^`\n]*`(?!\])|(!?)\[([^\]]*)\]\(([^)\s]+)\)", re.DOTALL | re.MULTILINE)

ITEM = re.compile(r"( *)(?:[-*]|\d+\.) ")


def on_config(config: Any) -> Any:
    """Take the address of the repository from pyproject.toml; without one, links to source files are plain text."""
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    config.repo_url = hatch.get("metadata", {}).get("hooks", {}).get("custom", {}).get("repository", "").rstrip("/")
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside `docs`."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return a page whose links lead to pages of the site, or else to the repository."""
    markdown = with_blank_lines(markdown)
    here = page.file.src_uri
    origins = {to: source for source, to in OUTSIDE.items()}
    origin = Path(origins.get(here, f"docs/{here}")).parent
    site = {f"docs/{file.src_uri}": file.src_uri for file in files} | OUTSIDE

    def lead(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        path, _, anchor = (target or "").partition("#")
        if not path or ":" in path:
            return found[0]
        place = normpath(origin / path)
        if place in site:
            end = f"#{anchor}" if anchor else ""
            return f"{picture}[{text}]({relpath(site[place], Path(here).parent)}{end})"
        if not (ROOT / place).exists():
            return found[0]  # mkdocs reports it
        return f"[{text}]({config.repo_url}/blob/HEAD/{place})" if config.repo_url else text

    return CODE_OR_LINK.sub(lead, markdown)


def with_blank_lines(markdown: str) -> str:
    """Return Markdown in which blank lines are before tables and lists, and what is nested is indented by 4 spaces.

    GitHub needs neither, Python-Markdown both.
    """
    lines: list[str] = []
    in_code, first, last = False, "", ""  # first and last line of the paragraph, list or table
    for line in markdown.splitlines():
        text = line.lstrip()
        if text.startswith("```"):
            in_code = not in_code
        elif not in_code and text:
            is_row = text.startswith("|")
            if line != text and (is_row or ITEM.match(text)):
                line = f"    {text}"  # noqa: PLW2901
            begins_table = is_row and not last.startswith("|")
            begins_list = line == text and text.startswith(("- ", "* ", "1. ")) and not ITEM.match(first)
            if last and (begins_table or begins_list):
                lines.append("")
                first = ""
        first, last = ("", "") if in_code or not text else (first or text, text)
        lines.append(line)
    return "\n".join(lines)
