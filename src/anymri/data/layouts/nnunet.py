"""nnU-Net raw folders: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, and dataset.json with the channel names."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymri.data.case import Case
from anymri.data.layouts.roles import case_of_files, images_in, is_visible
from anymri.errors import CohortError
from anymri.modalities import find_modality

_EXAMPLE = 'Write it with "channel_names": {"0": "T1", "1": "T1c", ...}, the number in the file name first.'


def matches(root: Path) -> bool:
    """Return whether a folder has the layout of nnU-Net raw."""
    return any(is_visible(root / folder) for folder in ("imagesTr", "imagesTs"))


def cases(root: Path) -> list[Case]:
    """Return the training and test cases; raise `CohortError` if the modality of a channel is unknown."""
    channels = _channels(root / "dataset.json")
    found = []
    for split in ("Tr", "Ts"):
        files: dict[str, dict[str, Path]] = defaultdict(dict)
        for file, stem in images_in(root / f"images{split}"):
            name, _, channel = stem.rpartition("_")
            if name and channel.isdecimal() and len(channel) == 4:
                files[name][_modality(channels, file, int(channel))] = file
        for label, name in images_in(root / f"labels{split}"):
            if name in files:
                files[name]["label"] = label
        found += [case_of_files(name, roles) for name, roles in files.items()]
    return found


def _modality(channels: Mapping[int, str], file: Path, channel: int) -> str:
    if channel not in channels:
        raise CohortError(
            f"{file} is channel {channel}, which dataset.json does not name.", "Add the channel to channel_names."
        )
    return channels[channel]


def _channels(path: Path) -> dict[int, str]:
    """Return a mapping from channel number to modality, read from dataset.json."""
    if not path.is_file():
        raise CohortError(f"{path} is missing, so the modality of each channel is unknown.", _EXAMPLE)
    try:
        names: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["channel_names"]
        channels = {int(number): find_modality(str(name)) for number, name in names.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(f"channel_names of {path} cannot be read.", _EXAMPLE) from error
    modalities = {number: modality for number, modality in channels.items() if modality}
    if len(modalities) < len(channels) or len(set(modalities.values())) < len(modalities):
        raise CohortError(f"channel_names of {path} are not different modalities: {names}.", _EXAMPLE)
    return modalities
