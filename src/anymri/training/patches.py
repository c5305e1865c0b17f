"""Training batches as a function of seed, stage and step alone: resuming does not change them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anymri.data.augmentation import augmentation
from anymri.data.cache import CachedCase
from anymri.systems.batch import Batch
from anymri.systems.recipes.schema import Stage
from anymri.training.cohort.missing import random_subset


class Patches(Dataset[tuple[Tensor, ...]]):
    """Random patches of cached cases; patch i depends on the seed and i only.

    Every pass goes through all cases in a new order. An item is a tuple of images (4, X, Y, Z) float32, classes
    (X, Y, Z) int64, present (4,) bool, available (`Stage.copies`, 4) bool and corners (2, 3) int64; see `Batch`.
    """

    def __init__(self, cases: Sequence[CachedCase], stage: Stage, seed: int) -> None:
        self.cases = cases
        self.stage = stage
        self.seed = seed
        self.augment = augmentation(stage.augmentation)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return patch `index`; any index from 0 is valid."""
        rng = np.random.default_rng([self.seed, 0, index])
        case = self.cases[self._case_index(index)]
        start = random_start(case, self.stage, rng)
        patch = case.read_patch(start, self.stage.crop)
        assert patch.classes is not None
        first = torch.tensor(patch.origin, device="cpu")
        corners = torch.stack([first, first + torch.tensor(self.stage.crop, device="cpu") - 1])
        seed = int(rng.integers(2**31))
        images, classes, corners = self.augment(patch.images, patch.classes, corners, seed, case.deviation)
        # Augmentation shifts the intensities of missing modalities too; systems do not use their values.
        present = case.present
        if self.stage.single_subset:
            present = present & self.stage.single_subset.as_tensor()[0]
        available = np.stack([self._subset(case, present.numpy(), rng) for _ in range(self.stage.copies)])
        return images, classes.long(), present, torch.from_numpy(available), corners

    def _subset(self, case: CachedCase, present: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
        if self.stage.fixes_subsets:
            assert case.kept is not None
            kept: NDArray[np.bool_] = case.kept.numpy()
            return kept
        return random_subset(present, rng, "all" if self.stage.single_subset else self.stage.subsets)

    def _case_index(self, index: int) -> int:
        turn, place = divmod(index, len(self.cases))
        return int(np.random.default_rng([self.seed, 1, turn]).permutation(len(self.cases))[place])


def random_start(case: CachedCase, stage: Stage, rng: np.random.Generator) -> list[int]:
    """Return the first voxel of a random patch, in voxels of the case's box.

    A share `Stage.foreground_oversampling` of the patches is drawn around a tumour voxel, the others by
    `Stage.patch_sampling`. The tumour voxel is drawn by class first, each equally likely, so that small regions are
    sampled as often as large ones; it is placed in the middle half of the patch. Where the box is shorter than the
    crop, the patch is centred on the box.
    """
    crop = np.array(stage.crop)
    spare = np.array(case.shape) - crop
    low, high = np.minimum(0, spare // 2), np.where(spare < 0, spare // 2, spare)
    if rng.random() < stage.foreground_oversampling and (by_class := case.tumour_voxels()):
        voxels = by_class[rng.integers(len(by_class))]
        start = voxels[rng.integers(len(voxels))] - rng.integers(crop // 4, 3 * crop // 4)
    elif stage.patch_sampling == "around_voxels":
        start = rng.integers(case.shape) - crop // 2
    else:
        start = rng.integers(low, np.maximum(high, low + 1) if stage.patch_sampling == "uniform_but_end" else high + 1)
    return [int(s) for s in np.clip(start, low, high)]


def batches(
    cases: Sequence[CachedCase],
    stage: Stage,
    seed: int,
    first_step: int,
    steps: int,
    workers: int,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of steps `first_step` to `first_step + steps` of a stage, `copies` samples per patch in a row.

    Process `rank` of `processes` gets its share of every batch, in `Stage.accumulate` micro-batches.

    workers  processes that read patches; 0 reads them in this one
    """
    share = stage.batch_size // processes
    size = share // stage.accumulate
    firsts = (step * stage.batch_size + rank * share for step in range(first_step, first_step + steps))
    order = [first + i for first in firsts for i in range(share)]
    loader = DataLoader(Patches(cases, stage, seed), batch_size=size, sampler=order, num_workers=workers)
    for images, labels, present, available, corners in loader:
        patch = torch.arange(size, device="cpu").repeat_interleave(stage.copies)
        yield Batch(images[patch], labels[patch], present[patch], available.flatten(0, 1), corners[patch], patch)
