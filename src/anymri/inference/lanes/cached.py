"""Verdicts on lanes, kept in the cache folder per weights, lane, machine and version."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from anymri._version import __version__
from anymri.errors import ConfigurationError, OutputError
from anymri.files import TextError, cache_folder, digest, read_text, write_json
from anymri.inference.lanes.check import RULE, Verdict, compare
from anymri.systems.computation import Computation
from anymri.systems.contract import System
from anymri.weights.card import WeightsCard

_CPU_INFO = Path("/proc/cpuinfo")


def verdict_of(lane: str, system: System[Any], card: WeightsCard, checksum: str, computation: Computation) -> Verdict:
    """Return the verdict on a lane for weights, from the cache or by comparing; see `check.compare`.

    checksum     SHA-256 of the weights file
    computation  the lane's

    A cache that cannot be written costs the comparison again, nothing else.
    """
    key = {
        "rule": RULE,
        "weights": checksum,
        "lane": lane,
        "machine": machine(next(system.parameters()).device),
        "threads": torch.get_num_threads(),
        "versions": {"anymri": __version__, "torch": torch.__version__, "openvino": _version("openvino")},
    }
    file = cache_folder() / "lanes" / f"{digest(key)}.json"
    kept = _read(file)
    if kept is not None:
        return kept
    try:
        verdict = compare(system, card, computation)
    except ConfigurationError as error:  # the lane cannot compute this network at all
        verdict = Verdict(False, error.what.removesuffix("."), 0.0)
    with suppress(OutputError):
        write_json(file, {**asdict(verdict), "key": key})
    return verdict


def machine(device: torch.device) -> str:
    """Return the name of a GPU, or of the CPU with the instructions that PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    named = [facts[each] for each in ("model name", "cpu family", "model", "stepping") if each in facts]
    return ", ".join([*(named or [platform.processor()]), torch.backends.cpu.get_cpu_capability()])


def _read(file: Path) -> Verdict | None:
    """Return the verdict in a file; None if it does not exist or is damaged."""
    try:
        found = json.loads(read_text(file))
        return Verdict(bool(found["allowed"]), str(found["finding"]), float(found["speed"]))
    except (OSError, TextError, ValueError, KeyError, TypeError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
