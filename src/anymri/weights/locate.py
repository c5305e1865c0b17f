"""Find the weights file that a user names: a file, the folder of a run, or installed weights."""

from __future__ import annotations

from pathlib import Path

from anymri.errors import WeightsError, did_you_mean
from anymri.weights.folders import installed_files

# In a run folder, the first of these that exists.
RUN_WEIGHTS = ("checkpoints/best.safetensors", "checkpoints/last.safetensors")


def find_weights(path: Path) -> Path:
    """Return the weights file at `path`, or the best (else the last) weights of the run folder at `path`.

    path  may also be the name of installed weights, if nothing exists at the path

    Raises `WeightsError` if there is none.
    """
    if path.is_dir():
        found = [path / name for name in RUN_WEIGHTS if (path / name).is_file()]
        if not found:
            raise WeightsError(
                f"{path} holds no weights ({' or '.join(RUN_WEIGHTS)}).",
                "Give a folder that anymri train wrote, or a .safetensors file.",
            )
        return found[0]
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path} is not a regular file.", "Give a run folder or a .safetensors file.")
    if path.is_file():
        return path
    installed = installed_files()
    if str(path) in installed:
        return installed[str(path)]
    raise WeightsError(
        f"There are no weights at {path}, and no installed weights have this name.",
        f"{did_you_mean(str(path), installed)}Give a run folder, a .safetensors file or a name of: anymri weights list",
    )
