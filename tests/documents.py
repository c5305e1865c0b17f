"""Code blocks of the documents, and how tests run them.

A block with a title is a file. `bash` blocks run line by line, `python` blocks share their names within a page, and
`text` blocks show output.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from cli.command import anymri
from installed import install

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
# What only a shell understands, or a process of its own.
_SHELL = re.compile(r"[|>$*;&]")


class Block(NamedTuple):
    """Code block of a page: its language, the file that it is, if any, and its text."""

    language: str
    file: str | None
    text: str


def blocks(page):
    """Return the code blocks of a page."""
    return [Block(*found.groups()) for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def prose(page):
    """Return the text of a page without code."""
    return re.sub(r"`[^`\n]+`", "", _BLOCK.sub("", page.read_text(encoding="utf-8")))


def run_page(page):
    """Run the code blocks of a page in order, in the current folder."""
    shell, names = Shell(Path.cwd()), {}
    for block in blocks(page):
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            for line in block.text.replace("\\\n", " ").splitlines():
                shell.run(line)
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), names)
        else:
            assert block.language == "text", f"{page}: a block in {block.language or 'no language'} is never run"


class Shell:
    """Runs lines of a shell; `anymri` within this process where that is possible, because a new one imports torch.

    folder  where the programs `anymri` and `python`, and what `pip install` installs, are put
    """

    def __init__(self, folder):
        self.path = folder / ".installed"
        self.path.mkdir()
        for name, words in {"anymri": "-m anymri", "python": ""}.items():
            program = self.path / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            program.chmod(0o755)
        self.environment = os.environ | {"PATH": f"{self.path}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
        self.in_process = True

    def run(self, line):
        """Run one line; it must end with 0."""
        words = shlex.split(line, comments=True)
        if not words:
            return
        if words[:3] == ["pip", "install", "-e"]:
            self._install(Path(words[3]))
        elif words[0] == "anymri" and self.in_process and not _SHELL.search(line.partition(" #")[0]):
            result = anymri(*words[1:])
            assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"
        else:
            command = ["bash", "-euo", "pipefail", "-c", line]
            found = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
            assert found.returncode == 0, f"{line}\n{found.stdout}{found.stderr}"

    def _install(self, project):
        """Install a package for the processes of all further lines, as `pip install -e` does."""
        install(project, self.path)
        python_path = [project.resolve(), self.path, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment["PYTHONPATH"] = os.pathsep.join(map(str, python_path))
        self.in_process = False
