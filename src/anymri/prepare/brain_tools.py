"""Brain extraction by networks of others: deepbet in this process, HD-BET as a command."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image, read_image, write_image
from anymri.errors import ImageError, MissingExtraError
from anymri.extras import need
from anymri.prepare.grid import Grid, study_grid
from anymri.prepare.resampling import resample, resample_labels

_HDBET = "hd-bet"
_HDBET_SECONDS = 3600


def installed() -> tuple[str, ...]:
    """Return the names of the installed tools, the one to prefer first."""
    tools = {"deepbet": find_spec("deepbet") is not None, _HDBET: shutil.which(_HDBET) is not None}
    return tuple(name for name, there in tools.items() if there)


def deepbet(image: Image) -> NDArray[np.bool_]:
    """Return the mask of deepbet, (x, y, z) bool on the grid of the scan.

    The network gets the scan at 1 mm, so that thick slices are no thinner brain for it. It runs on the CPU and needs
    1.3 GB of memory; it reads its weights from the package and writes no file. Raises `MissingExtraError` without the
    extra `brain`, `ImageError` if the network fails on the scan.
    """
    need("brain", "deepbet", purpose="The brain mask by deepbet")
    import nibabel as nib

    grid = study_grid(image)
    scan = nib.Nifti1Image(resample(image.array, image.affine, grid), grid.affine)
    try:
        _, mask, _ = _deepbet_network().run(scan)
    except Exception as error:  # of a scan without a brain the package makes empty boxes, which raise many classes
        raise ImageError(
            f"deepbet does not find a brain in {image.path}.",
            "Check that it is a scan of a head, or give a brain mask with --brain-mask.",
        ) from error
    return _on_scan(np.asanyarray(mask.dataobj) > 0, grid.affine, image)


def hd_bet(image: Image) -> NDArray[np.bool_]:
    """Return the mask of HD-BET, (x, y, z) bool on the grid of the scan; it takes minutes on a CPU.

    It runs the command `hd-bet` of version 2 in a temporary folder. Raises `MissingExtraError` if there is none,
    `ImageError` if it fails.
    """
    if shutil.which(_HDBET) is None:
        raise MissingExtraError(
            "The brain mask by HD-BET needs the command hd-bet, which is not installed.",
            "Install it: pip install 'anymri[brain-hdbet]'",
        )
    with tempfile.TemporaryDirectory(prefix="anymri-") as folder:
        scan, brain = Path(folder, "scan.nii.gz"), Path(folder, "brain.nii.gz")
        write_image(scan, image.array, image.affine)
        command = [_HDBET, "-i", str(scan), "-o", str(brain), "-device", "cpu", "--disable_tta", "--save_bet_mask"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_HDBET_SECONDS)
            mask = read_image(Path(folder, "brain_bet.nii.gz"))
        except (subprocess.SubprocessError, OSError, ImageError) as error:
            raise ImageError(
                f"hd-bet gives no brain mask of {image.path}.",
                "Run hd-bet on the file to see its message, or use another method with --brain.",
            ) from error
        return _on_scan(mask.array > 0, mask.affine, image)


def _on_scan(mask: NDArray[np.bool_], affine: NDArray[np.float64], image: Image) -> NDArray[np.bool_]:
    on_scan: NDArray[np.bool_] = resample_labels(mask.astype(np.uint8), affine, Grid.of(image)) > 0
    return on_scan


@cache
def _deepbet_network() -> Any:
    from deepbet import BrainExtraction

    return BrainExtraction(no_gpu=True)
