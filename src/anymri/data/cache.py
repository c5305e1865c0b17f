"""Preprocessed cases on disk, from which a patch is read in milliseconds.

Each case is one folder, named by a hash of the contents of its files and of the settings, so a changed scan or setting
never meets an old entry. Intensities are int16 with one scale a modality (error below 2e-5 of the largest value): half
the bytes of float32, and faster to widen than float16.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.case import Case, read_study
from anymri.data.prepared import Prepared
from anymri.data.preprocessing import Preprocessing, preprocess
from anymri.errors import OutputError
from anymri.files import sha256
from anymri.modalities import MODALITIES
from anymri.regions import LabelScheme

FORMAT = 4
_INT16_LIMIT = 32767
# Tumour voxels of each class remembered for sampling: enough to hit every part of a tumour, little to read.
_REMEMBERED_VOXELS = 5000


def default_folder() -> Path:
    """`$ANYMRI_CACHE`, or `anymri/patches` in the user's cache folder."""
    if named := os.environ.get("ANYMRI_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anymri" / "patches"


@dataclass(frozen=True)
class CachedCase:
    """One case in the cache.

    shape       (X, Y, Z) of the brain box
    present     (4,) bool over `MODALITIES`
    scale       (n,) float32: stored int16 times scale is the intensity; one per existing modality, in order
    background  (4,) float32: values around the box
    start       first voxel of the box in the grid of the scans
    grid        shape of that grid
    kept        (4,) bool: the only subset that the case is trained or validated on, where a list or the seed fixes one
    """

    name: str
    folder: Path
    shape: tuple[int, int, int]
    present: Tensor
    scale: Tensor
    background: Tensor
    start: tuple[int, int, int]
    grid: tuple[int, int, int]
    kept: Tensor | None = None

    def read(self) -> Prepared:
        """Return the whole case."""
        return self.read_patch((0, 0, 0), self.shape)

    def read_patch(self, start: Sequence[int], size: Sequence[int]) -> Prepared:
        """Return the patch of `size` voxels that begins at voxel `start` of the box.

        Voxels outside the box hold the background and class 0; missing modalities hold zeros.
        """
        inside = tuple(slice(max(s, 0), min(s + n, end)) for s, n, end in zip(start, size, self.shape, strict=True))
        target = tuple(slice(i.start - s, i.stop - s) for i, s in zip(inside, start, strict=True))
        stored = np.load(self.folder / "images.npy", mmap_mode="r")[(slice(None), *inside)]
        labels = torch.from_numpy(np.array(np.load(self.folder / "classes.npy", mmap_mode="r")[inside]))
        # One pass by numpy, whose new memory costs fewer page faults than torch's: 6 ms instead of 20.
        scale = self.scale.numpy()[:, None, None, None]
        images = torch.from_numpy(np.multiply(stored, scale, dtype=np.float32))
        x, y, z = (slice(first + s, first + s + n) for first, s, n in zip(self.start, start, size, strict=True))
        box = (x, y, z)
        if self.present.all() and images.shape[1:] == tuple(size):
            return Prepared(images, self.present, self.background, labels, box, self.grid)
        patch = self.background[:, None, None, None].repeat(1, *size)
        x, y, z = target
        patch[self.present, x, y, z] = images
        classes = torch.zeros(*size, dtype=torch.uint8, device="cpu")
        classes[x, y, z] = labels
        return Prepared(patch, self.present, self.background, classes, box, self.grid)

    def holds(self, tissue: int) -> bool:
        """Whether the label map has voxels of a class of tumour."""
        return bool((np.load(self.folder / "tumour.npy")[:, 0] == tissue).any())

    def tumour_voxels(self) -> list[NDArray[np.int16]]:
        """For each tumour class that the case has: (n, 3) voxels of the box, a random choice of at most 5000."""
        rows = np.load(self.folder / "tumour.npy")
        return [rows[rows[:, 0] == tissue, 1:] for tissue in np.unique(rows[:, 0])]


def cache_case(case: Case, scheme: LabelScheme, settings: Preprocessing, folder: Path) -> CachedCase:
    """The entry of a labelled case in the cache at `folder`; reads and preprocesses the scans if there is none yet."""
    entry = folder / _key(case, scheme, settings)
    if not (entry / "meta.json").exists():
        _write_entry(entry, preprocess(read_study(case, scheme), settings))
    meta = json.loads((entry / "meta.json").read_text())
    present = torch.tensor([m in meta["background"] for m in MODALITIES], device="cpu")
    background = torch.tensor([meta["background"].get(m, 0.0) for m in MODALITIES], device="cpu")
    scale = torch.tensor(meta["scale"], device="cpu")
    shape, start, grid = (tuple(meta[name]) for name in ("shape", "start", "grid"))
    return CachedCase(case.name, entry, shape, present, scale, background, start, grid)


def _key(case: Case, scheme: LabelScheme, settings: Preprocessing) -> str:
    contents = {what: sha256(path) for what, path in sorted(case.files().items())}
    described = json.dumps([FORMAT, contents, scheme.name, settings.model_dump()])
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _write_entry(entry: Path, data: Prepared) -> None:
    """Writes the folder under a temporary name and moves it into place: an entry is there whole or not at all."""
    assert data.classes is not None
    images, classes = data.images[data.present].numpy(), data.classes.numpy()
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".anymri-"))
    except OSError as error:
        raise _cannot_write(entry.parent, error) from error
    try:
        scale = np.abs(images).max(axis=(1, 2, 3)) / _INT16_LIMIT
        np.save(temporary / "images.npy", np.rint(images / scale[:, None, None, None]).astype(np.int16))
        np.save(temporary / "classes.npy", classes)
        np.save(temporary / "tumour.npy", _some_tumour_voxels(classes))
        meta = {
            "shape": classes.shape,
            "start": [axis.start for axis in data.box],
            "grid": data.grid,
            "scale": scale.tolist(),
            "background": dict(zip(data.subset, data.background[data.present].tolist(), strict=True)),
        }
        (temporary / "meta.json").write_text(json.dumps(meta))
        if entry.exists():  # another process was faster
            return
        temporary.rename(entry)
    except OSError as error:
        if not (entry / "meta.json").exists():
            raise _cannot_write(entry.parent, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _cannot_write(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The cache of preprocessed scans at {folder} cannot be written: {error.strerror or error}.",
        "Free space there, or choose another folder with --cache or the environment variable ANYMRI_CACHE.",
    )


def _some_tumour_voxels(classes: NDArray[np.uint8]) -> NDArray[np.int16]:
    """(n, 4): class and x, y, z."""
    rng = np.random.default_rng(0)
    rows = [np.empty((0, 4), np.int16)]
    for tissue in np.unique(classes[classes > 0]):
        voxels = rng.permutation(np.argwhere(classes == tissue))[:_REMEMBERED_VOXELS]
        rows.append(np.insert(voxels, 0, tissue, axis=1).astype(np.int16))
    return np.concatenate(rows)
