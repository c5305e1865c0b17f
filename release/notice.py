"""Write NOTICE: the packages that anymri and its extras install, with their licences.

    python release/notice.py

Runs in an environment with all packages of requirements/cpu.txt, from whose metadata the licences are read
(`make notice` creates one).
"""

import re
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKED = re.compile(r"^([a-z0-9._-]+)==", re.MULTILINE)
# A licence field that is longer has the text of the licence, not its name.
LONGEST_NAME = 60
HEAD = """anymri
Copyright the anymri developers. Licensed under the Apache License 2.0, see LICENSE.

anymri is distributed without the packages below. An installation of the core or of an extra brings them from a package
index, each under its licence, as the package itself states it. Container images contain them. "needed by" is the core
or the first extra that needs the package. Made by `make notice` from requirements/.

One file of another project is part of anymri: src/anymri/studio/assets/niivue.umd.js is NiiVue as it is published,
under BSD-2-Clause, with packages under MIT and ISC inside; see NIIVUE-LICENSE beside it.
"""
CUDA_HEAD = """
Only with PyTorch for CUDA (requirements/cuda.txt), or on other systems than Linux; their licences were not read here.
The packages nvidia-* and cuda-* are proprietary software of NVIDIA: see the licence in each of them.
"""


def locked(name: str) -> list[str]:
    """Return the packages of a file of requirements/."""
    return LOCKED.findall((ROOT / "requirements" / name).read_text(encoding="utf-8"))


def licence(package: Distribution) -> str:
    """Return the licence that a package states: its expression, or a short name, or its classifiers."""
    fields = package.metadata
    classifiers = [each.rpartition(" :: ")[2] for each in fields.get_all("Classifier", []) if "License ::" in each]
    short = (fields.get("License") or "").strip().removeprefix("OSI Approved :: ")
    named = short if 0 < len(short) <= LONGEST_NAME and "\n" not in short else ""
    return fields.get("License-Expression") or named or ", ".join(classifiers) or "see the package"


def needs() -> dict[str, str]:
    """Return package -> what needs it: `core`, or else the first extra of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = set(locked("cpu.txt"))
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    for group, requirements in {"core": project["dependencies"], **project["optional-dependencies"]}.items():
        if group == "all":
            break
        waiting = [each for each in map(Requirement, requirements) if each.name != "anymri"]
        while waiting:
            requirement = waiting.pop()
            name, key = canonicalize_name(requirement.name), (requirement.name, frozenset(requirement.extras))
            if key in seen or name not in names:
                continue
            seen.add(key)
            found.setdefault(name, group)
            wanted = [Requirement(text) for text in distribution(name).requires or []]
            extras = requirement.extras or {""}
            waiting += [
                each
                for each in wanted
                if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
            ]
    return found


def notice() -> str:
    """Return the text of NOTICE."""
    needed = needs()
    rows = [(name, needed[name], licence(distribution(name))) for name in locked("cpu.txt")]
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{name:{width}}  {group:8}  {text}" for name, group, text in [("package", "needed by", "licence"), *rows]]
    others = sorted(set(locked("cuda.txt")) - set(locked("cpu.txt")))
    return "\n".join([HEAD, *lines, CUDA_HEAD, *others, ""])


if __name__ == "__main__":
    (ROOT / "NOTICE").write_text(notice(), encoding="utf-8")
