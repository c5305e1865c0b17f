"""Choose the device on which a network computes."""

from __future__ import annotations

import torch

from anymri.errors import ConfigurationError
from anymri.inference.choices import check_device


def pick_device(name: str) -> torch.device:
    """Return the device of a name: `auto` (a GPU if there is one, else the CPU), `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises `ConfigurationError` if it is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"The device {name!r} cannot be used: {reason}", "Use auto or cpu.") from error
    return device
