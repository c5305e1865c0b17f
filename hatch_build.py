"""Metadata of the package that follow from the address of the repository: links, and a README for package indexes."""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*|<img[^>]*src=\"(?!https?:)[^>]*>\n*")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:)[^)]*\)")
ANCHOR = re.compile(r"<a[^>]*href=\"(?!https?:|mailto:)[^>]*>(.*?)</a>", re.DOTALL)
TARGET = re.compile(r"(\]\(|(?:src|href)=\")(?!https?:|mailto:|#)([^)\"]+)")


def readme(text: str, repository: str) -> str:
    """Return a README whose relative links lead to the repository; without an address, without links and pictures.

    An index of packages shows the README without the files beside it.
    """
    if not repository:
        return ANCHOR.sub(r"\1", LINK.sub(r"\1", PICTURE.sub("", text)))

    def absolute(found: re.Match[str]) -> str:
        kind = "raw" if found[2].endswith((".png", ".svg", ".gif")) else "blob"
        return f"{found[1]}{repository}/{kind}/HEAD/{found[2]}"

    return TARGET.sub(absolute, text)


class Metadata(MetadataHookInterface):
    """Sets `readme` and `urls` by `repository` in [tool.hatch.metadata.hooks.custom] of pyproject.toml."""

    def update(self, metadata: dict[str, object]) -> None:
        """Add the two fields to the metadata of the project."""
        repository = self.config["repository"].rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": readme(text, repository)}
        if repository:
            metadata["urls"] = {
                "Repository": repository,
                "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }
