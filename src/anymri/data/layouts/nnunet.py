"""nnU-Net raw folders: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, and dataset.json with the channel names."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymri.data.layouts import found as reasons
from anymri.data.layouts.found import Found, case_of_files
from anymri.data.layouts.listing import list_folder
from anymri.data.layouts.roles import role_of_words
from anymri.data.layouts.words import split_words
from anymri.errors import CohortError
from anymri.files import read_text
from anymri.modalities import MODALITIES

_EXAMPLE = 'Write it with "channel_names": {"0": "T1", "1": "T1c", ...}, the number in the file name first.'


def matches(root: Path) -> bool:
    """Return whether a folder has the layout of nnU-Net raw."""
    return any((root / folder).is_dir() for folder in ("imagesTr", "imagesTs"))


def find(root: Path) -> Found:
    """Return the training and test cases; raise `CohortError` if the modality of a channel is unknown."""
    channels = _channels(root / "dataset.json")
    found = Found()
    for split in ("Tr", "Ts"):
        files: dict[str, dict[str, Path]] = defaultdict(dict)
        images = list_folder(root / f"images{split}")
        found.skip(reasons.OTHER_FORMAT, (f"images{split}/{file.name}" for file in images.others))
        for file, stem in images.images:
            name, _, channel = stem.rpartition("_")
            if name and channel.isdecimal() and len(channel) == 4:
                files[name][_modality(channels, file, int(channel))] = file
            else:
                found.skip(reasons.NOT_UNDERSTOOD, [f"images{split}/{file.name}"])
        for label, name in list_folder(root / f"labels{split}").images:
            if name in files:
                files[name]["label"] = label
            else:
                found.skip(reasons.NO_SCAN, [f"labels{split}/{label.name}"])
        found.cases += [case_of_files(name, roles) for name, roles in files.items()]
    return found


def _modality(channels: Mapping[int, str], file: Path, channel: int) -> str:
    if channel not in channels:
        raise CohortError(
            f"{file} is channel {channel}, which dataset.json does not name.", "Add the channel to channel_names."
        )
    return channels[channel]


def _modality_named(channel: str) -> str | None:
    """Return the modality of a channel, read like the name of a file: `T1 post contrast` is T1c."""
    role = role_of_words(tuple(word.text for word in split_words(channel)))
    return role if isinstance(role, str) and role in MODALITIES else None


def _channels(path: Path) -> dict[int, str]:
    """Return a mapping from channel number to modality, read from dataset.json."""
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "is missing"
        raise CohortError(f"{path} {what}, so the modality of each channel is unknown.", _EXAMPLE)
    try:
        names: dict[str, Any] = json.loads(read_text(path))["channel_names"]
        channels = {int(number): _modality_named(str(name)) for number, name in names.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(f"channel_names of {path} cannot be read.", _EXAMPLE) from error
    modalities = {number: modality for number, modality in channels.items() if modality}
    if len(modalities) < len(channels) or len(set(modalities.values())) < len(modalities):
        raise CohortError(f"channel_names of {path} are not different modalities: {names}.", _EXAMPLE)
    return modalities
