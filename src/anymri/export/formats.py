"""Formats of `anymri export`, checked without torch."""

from __future__ import annotations

import re
from pathlib import Path

from anymri.errors import ConfigurationError, OutputError, check_known
from anymri.files import is_unused
from anymri.graphs.formats import FORMATS as GRAPHS

NNUNET, BIDS, BUNDLE, HUGGINGFACE = "nnunet", "bids", "bundle", "huggingface"
# Formats of a cohort, and of weights beside those of graphs.
OF_COHORTS, OF_WEIGHTS = (NNUNET, BIDS), (BUNDLE, HUGGINGFACE)
ALL_FORMATS = (*GRAPHS, *OF_WEIGHTS, *OF_COHORTS)
# nnU-Net finds a data set by the number in the name of its folder.
_DATASET = re.compile(r"Dataset\d{3}_\w+")


def check_format(to: str) -> None:
    """Raise `ConfigurationError` for an unknown format."""
    check_known("format", to, ALL_FORMATS)


def check_folder(folder: Path, to: str) -> None:
    """Raise `OutputError` for a folder that is in use, `ConfigurationError` for a name that the format cannot have."""
    if not is_unused(folder):
        raise OutputError(f"{folder} is not an empty folder.", "Choose a new folder, with -o.")
    if to == NNUNET and _DATASET.fullmatch(folder.name) is None:
        raise ConfigurationError(
            f"nnU-Net cannot find a data set in a folder named {folder.name}.",
            f"Name it DatasetNNN_NAME with three digits: -o {folder.parent / 'Dataset501_BrainTumour'}",
        )
