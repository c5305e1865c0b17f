"""Cache of preprocessed cases on disk, from which a patch is read in milliseconds.

Each case is one folder, named by a hash of the contents of its files and of the settings, so that a changed scan or
setting makes a new entry. Intensities are int16 with one scale per modality (error below 2e-5 of the largest value):
half the bytes of float32, and faster to convert than float16. `meta.json` has checksums of the arrays and of itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.case import Case, read_study
from anymri.data.prepared import Prepared
from anymri.data.preprocessing import Preprocessing, preprocess
from anymri.errors import OutputError
from anymri.files import read_text, sha256, temporary_path
from anymri.modalities import MODALITIES
from anymri.regions import REGIONS, LabelScheme, region_mask

FORMAT = 6
_ARRAYS = ("images.npy", "classes.npy", "tumour.npy")
_INT16_LIMIT = 32767
# Tumour voxels stored per class for patch sampling: enough to cover all of a tumour, quick to read.
_STORED_VOXELS = 5000


@dataclass(frozen=True)
class Entry:
    """Entry of the cache: a folder, with its arrays by name, which are mapped into memory."""

    folder: Path

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(self.folder / name, mmap_mode="r")
        return array


@dataclass(frozen=True)
class CachedCase:
    """A preprocessed case: what is known without reading its images.

    name        name of the case
    arrays      images, classes and some tumour voxels by name: in memory, or an `Entry` on disk
    shape       (X, Y, Z) of the brain box, in voxels
    present     (4,) bool: modalities that exist, in the order of `MODALITIES`
    scale       (n,) float32: stored int16 times scale is the intensity; one per existing modality, in order
    background  (4,) float32: values around the box, zero where missing
    deviation   (4,) float32: standard deviations of the voxels of the box that are not zero, zero where missing
    start       first voxel of the box in the grid of the scans
    grid        shape of that grid, in voxels
    kept        (4,) bool: the only subset that the case is trained or validated on; None if a list or seed fixes none
    rebuilt     whether the entry was damaged and has been made again
    """

    name: str
    arrays: Entry | Mapping[str, NDArray[Any]]
    shape: tuple[int, int, int]
    present: Tensor
    scale: Tensor
    background: Tensor
    deviation: Tensor
    start: tuple[int, int, int]
    grid: tuple[int, int, int]
    kept: Tensor | None = None
    rebuilt: bool = False

    def read(self) -> Prepared:
        """Return the whole brain box."""
        return self.read_patch((0, 0, 0), self.shape)

    def read_patch(self, start: Sequence[int], size: Sequence[int]) -> Prepared:
        """Return the patch of `size` voxels that begins at voxel `start` of the box; it may extend beyond the box.

        Outside the box images are the background and classes 0; missing modalities are zero.
        """
        inside = tuple(slice(max(s, 0), min(s + n, end)) for s, n, end in zip(start, size, self.shape, strict=True))
        target = tuple(slice(i.start - s, i.stop - s) for i, s in zip(inside, start, strict=True))
        stored = self.arrays["images.npy"][(slice(None), *inside)]
        labels = torch.from_numpy(np.array(self.arrays["classes.npy"][inside]))
        # One pass of numpy, whose allocation causes fewer page faults than torch's: 6 ms instead of 20.
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

    @cached_property
    def tissues(self) -> frozenset[int]:
        """Tumour classes of `anymri.regions` that the label map has voxels of."""
        return frozenset(self.arrays["tumour.npy"][:, 0].tolist())

    def has_class(self, tissue: int) -> bool:
        """Return whether the label map has voxels of a tumour class of `anymri.regions`."""
        return tissue in self.tissues

    def has_region(self, region: str) -> bool:
        """Return whether the label map has voxels of a region of `anymri.regions`."""
        return not REGIONS[region].isdisjoint(self.tissues)

    def random_voxel(self, region: str, rng: np.random.Generator) -> NDArray[np.int_]:
        """Return a random voxel (3,) of the box among all of a region that the label map has."""
        voxels = np.flatnonzero(region_mask(self.arrays["classes.npy"], region))
        return np.array(np.unravel_index(rng.choice(voxels), self.shape))

    def tumour_voxels(self) -> list[NDArray[np.int16]]:
        """Return voxels (n, 3) of the box for each tumour class of the case: a random choice of at most 5000."""
        rows = self.arrays["tumour.npy"]
        return [rows[rows[:, 0] == tissue, 1:] for tissue in np.unique(rows[:, 0])]


def cache_case(
    case: Case, scheme: LabelScheme, settings: Preprocessing, folder: Path, check: bool = True
) -> CachedCase:
    """Return a labelled case from the cache at `folder`; preprocess its scans first if they are not in the cache.

    check  compare the checksums of the entry (about 0.6 s per GB), and make it again if it is damaged

    Raises `OutputError` if the cache cannot be written, and the errors of `read_study` and `preprocess`.
    """
    entry = folder / _key(case, scheme, settings)
    meta, is_damaged = _read_meta(entry, check), False
    if meta is None:
        is_damaged = entry.exists()
        meta = _write_entry(entry, preprocess(read_study(case, scheme), settings))
    return _described(case.name, Entry(entry), meta, is_damaged)


def in_memory(name: str, data: Prepared) -> CachedCase:
    """Return a preprocessed case with its arrays in memory, of the same types as on disk."""
    arrays, meta = _packed(data)
    return _described(name, arrays, meta)


def _described(
    name: str, arrays: Entry | Mapping[str, NDArray[Any]], meta: dict[str, Any], is_damaged: bool = False
) -> CachedCase:
    present = torch.tensor([m in meta["background"] for m in MODALITIES], device="cpu")
    background, deviation = (
        torch.tensor([meta[name].get(m, 0.0) for m in MODALITIES], device="cpu") for name in ("background", "deviation")
    )
    scale = torch.tensor(meta["scale"], device="cpu")
    shape, start, grid = (tuple(meta[name]) for name in ("shape", "start", "grid"))
    return CachedCase(name, arrays, shape, present, scale, background, deviation, start, grid, rebuilt=is_damaged)


def _key(case: Case, scheme: LabelScheme, settings: Preprocessing) -> str:
    contents = {role: sha256(path) for role, path in sorted(case.files().items())}
    described = json.dumps([FORMAT, contents, scheme.name, settings.model_dump()])
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _read_meta(entry: Path, check: bool) -> dict[str, Any] | None:
    """Return the content of `meta.json`; None if it is missing or damaged, or with `check` if an array is."""
    try:
        meta: dict[str, Any] = json.loads(read_text(entry / "meta.json"))
        if meta.pop("checksum") != _checksum_of_meta(meta):
            return None
        arrays = {name: _checksum(entry / name) for name in _ARRAYS} if check else meta["arrays"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # absent, or any other content
        return None
    return meta if arrays == meta["arrays"] else None


def _write_entry(entry: Path, data: Prepared) -> dict[str, Any]:
    """Write an entry in place of a damaged one, and return the content of its `meta.json`.

    The folder is written under a temporary name and moved into place, so that an entry exists whole or not at all.
    """
    arrays, meta = _packed(data)
    temporary, damaged = temporary_path(entry.parent), temporary_path(entry.parent)
    try:
        temporary.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(temporary / name, array)
        meta["arrays"] = {name: _checksum(temporary / name) for name in _ARRAYS}
        (temporary / "meta.json").write_text(json.dumps(meta | {"checksum": _checksum_of_meta(meta)}))
        if (first := _read_meta(entry, check=True)) is not None:
            return first  # another process wrote it, and may be reading it
        if entry.exists():
            entry.rename(damaged)
        temporary.rename(entry)
    except OSError as error:
        if (first := _read_meta(entry, check=True)) is not None:
            return first
        raise _cannot_write(entry.parent, error) from error
    finally:
        for folder in (temporary, damaged):
            shutil.rmtree(folder, ignore_errors=True)
    return meta


def _packed(data: Prepared) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays of an entry by name, and the content of its `meta.json` except checksums."""
    assert data.classes is not None
    images, classes = data.images[data.present].numpy(), data.classes.numpy()
    scale = np.abs(images).max(axis=(1, 2, 3)) / _INT16_LIMIT
    stored = np.rint(images / scale[:, None, None, None]).astype(np.int16)
    meta = {
        "shape": list(classes.shape),
        "start": [axis.start // data.coarsening for axis in data.box],
        "grid": [side // data.coarsening for side in data.grid],
        "scale": scale.tolist(),
        "background": dict(zip(data.subset, data.background[data.present].tolist(), strict=True)),
        "deviation": {
            m: float(scan[scan != 0].std(dtype=np.float64)) for m, scan in zip(data.subset, images, strict=True)
        },
    }
    return dict(zip(_ARRAYS, (stored, classes, _some_tumour_voxels(classes)), strict=True)), meta


def _checksum(file: Path) -> int:
    """Return the CRC-32 of a file."""
    from isal import isal_zlib

    value = 0
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            value = isal_zlib.crc32(block, value)
    return value


def _checksum_of_meta(meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def _cannot_write(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The cache of preprocessed scans at {folder} cannot be written: {error.strerror or error}.",
        "Free space there, or choose another folder with --cache or the environment variable ANYMRI_CACHE.",
    )


def _some_tumour_voxels(classes: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return rows (n, 4) of class and x, y, z: at most `_STORED_VOXELS` per class."""
    rng = np.random.default_rng(0)
    rows = [np.empty((0, 4), np.int16)]
    for tissue in np.unique(classes[classes > 0]):
        voxels = rng.permutation(np.argwhere(classes == tissue))[:_STORED_VOXELS]
        rows.append(np.insert(voxels, 0, tissue, axis=1).astype(np.int16))
    return np.concatenate(rows)
