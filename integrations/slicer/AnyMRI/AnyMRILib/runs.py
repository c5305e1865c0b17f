"""Segmentations of one set of volumes from several subsets: what was made is shown again without work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from AnyMRILib.program import ROLES


def subset_name(roles: Sequence[str]) -> str:
    """Return the name of a subset, as T1c+FLAIR."""
    return "+".join(role for role in ROLES if role in roles)


@dataclass
class Made:
    """Segmentations by what they were made from.

    nodes  key, see `key` -> identifier of the segmentation in the scene
    """

    nodes: dict[tuple[Any, ...], str] = field(default_factory=dict)

    @staticmethod
    def key(volumes: Mapping[str, str], subset: Sequence[str], weights: str) -> tuple[Any, ...]:
        """Return what a segmentation depends on: role -> identifier of its volume, the subset, the weights.

        Volumes of other roles count too, because they help to find the brain.
        """
        return tuple(sorted(volumes.items())), subset_name(subset), weights


def folder_of(temporary: Path, number: int, subset: Sequence[str]) -> Path:
    """Return a folder for the result of a subset."""
    return temporary / f"{number:03d}-{subset_name(subset)}"


def summary(result: Mapping[str, Any]) -> str:
    """Return one line about a result: the modalities and the volumes of the regions."""
    volumes = result.get("volumes_ml", {})
    shown = ", ".join(f"{region} {volumes[region]:.1f} mL" for region in ("WT", "TC", "ET") if region in volumes)
    return f"From {subset_name(result.get('modalities', ()))}: {shown}"
