"""`anymri info`: the installation, and the schema of the output for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from anymri.cli.console import output
from anymri.cli.results.installation import Extra, Information
from anymri.text import count

PACKAGES = ("anymri", "torch", "numpy", "scipy", "nibabel", "safetensors")
# What changes how anymri works; see docs/command-line.md.
VARIABLES = (
    "ANYMRI_WEIGHTS",
    "ANYMRI_CACHE",
    "ANYMRI_FIXTURES",
    "ANYMRI_REAL_DATA",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "MLFLOW_TRACKING_URI",
    "WANDB_MODE",
)


def info(
    schema: Annotated[bool, typer.Option("--schema", help="JSON Schema of what commands print with --json.")] = False,
) -> Information:
    """Show version, devices, lanes, weights and extras."""
    from anymri.extras import EXTRAS, install_line, missing_modules
    from anymri.files import cache_folder
    from anymri.weights.folders import folders, installed_files

    described = _schema() if schema else None
    if described is not None:
        output.write(json.dumps(described, indent=2) + "\n")
    packages = {name: _version(name) for name in PACKAGES}
    missing = {name: missing_modules(name) for name in EXTRAS}
    extras = [Extra(name, not modules, modules, install_line(name)) for name, modules in missing.items()]
    places = {"cache": cache_folder()}
    places |= {f"weights {number}" if number > 1 else "weights": each for number, each in enumerate(folders(), 1)}
    environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    # The rest needs torch, which takes seconds to import: what is known is printed before.
    if not schema:
        _print_versions(packages)
        _print("Extras", {each.name: "installed" if each.installed else f"missing: {each.install}" for each in extras})
        _print("Weights", dict.fromkeys(installed_files(), ""))
        _print("Folders", {name: f"{path}" for name, path in places.items()})
        _print("Environment", environment)
    devices = _devices()
    lanes = _lanes()
    if not schema:
        _print("Devices", devices)
        _print("Lanes", lanes)
    return Information(
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages,
        devices=devices,
        lanes=lanes,
        weights=list(installed_files()),
        extras=extras,
        folders=places,
        environment=environment,
        schema=described,
    )


def _schema() -> dict[str, object]:
    from anymri.cli.app import commands
    from anymri.cli.outcome import schema

    return schema(commands())


def _devices() -> dict[str, str]:
    """Return the name of each device -> what it is."""
    import torch

    found = {"cpu": f"{count(os.cpu_count() or 1, 'core')}, {count(torch.get_num_threads(), 'thread')}"}
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        found[f"cuda:{number}"] = f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _lanes() -> dict[str, str]:
    """Return the name of each lane -> whether it is available on the default device."""
    from anymri.inference.device import pick_device
    from anymri.inference.lanes import obstacles_on

    return {name: obstacle or "available" for name, obstacle in obstacles_on(pick_device("auto")).items()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _print_versions(packages: Mapping[str, str | None]) -> None:
    from anymri._version import __version__

    output.print(f"anymri {__version__}", style="bold")
    output.print(f"  Python {platform.python_version()} on {platform.platform()}", soft_wrap=True)
    installed = ", ".join(f"{name} {number}" for name, number in packages.items() if number and name != "anymri")
    output.print(f"  {installed}", soft_wrap=True)


def _print(title: str, facts: Mapping[str, str]) -> None:
    """Print facts, one per line; nothing without any."""
    if facts:
        output.print(title, style="bold")
    for name, text in facts.items():
        output.print(f"  {name}{f': {text}' if text else ''}", soft_wrap=True)
