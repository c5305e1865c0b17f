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
from anymri.data.distortions import resized
from anymri.systems.batch import Batch
from anymri.systems.crops import Sides
from anymri.systems.recipes.schema import Stage
from anymri.training.cohort.missing import one_modality, random_subset, several_modalities
from anymri.training.cohort.synthetic import SyntheticCases
from anymri.training.sampling import random_start


class Patches(Dataset[tuple[Tensor, ...]]):
    """Random patches of cached cases; patch i depends on the seed and i only.

    Every pass goes through all cases in a new order; synthetic cases come in their own. An item is a tuple of images
    (4, X, Y, Z) float32, classes (X, Y, Z) int64, present (4,) bool, available (`Stage.copies`, 4) bool and corners
    (2, 3) int64; see `Batch`.
    """

    def __init__(self, cases: Sequence[CachedCase], stage: Stage, seed: int) -> None:
        self.cases = cases
        self.stage = stage
        self.seed = seed
        self.augment = augmentation(stage.augmentation, stage.crop)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return patch `index`; any index from 0 is valid."""
        rng = np.random.default_rng([self.seed, 0, index])
        case = self.cases[self._case_index(index)]
        sides = _random_sides(self.stage, rng)
        start = random_start(case, self.stage, rng, sides)
        source = self.stage.augmented_from or sides
        border = [(long - side) // 2 for long, side in zip(source, sides, strict=True)]
        patch = case.read_patch([first - more for first, more in zip(start, border, strict=True)], source)
        assert patch.classes is not None
        images, classes = patch.images, patch.classes
        if self.stage.augmented_from is None:
            images, classes = resized(images, classes, self.stage.crop)
        first = torch.tensor(patch.origin, device="cpu") + torch.tensor(border, device="cpu")
        corners = torch.stack([first, first + torch.tensor(sides, device="cpu") - 1])
        seed = int(rng.integers(2**31))
        images, classes, corners = self.augment(images, classes, corners, seed, case.deviation)
        # Augmentation shifts the intensities of missing modalities too; systems do not use their values.
        present = case.present
        if self.stage.single_subset:
            present = present & self.stage.single_subset.as_tensor()[0]
        copies = range(self.stage.copies)
        available = np.stack([self._subset(case, present.numpy(), rng, copy) for copy in copies])
        return images, classes.long(), present, torch.from_numpy(available), corners

    def _subset(
        self, case: CachedCase, present: NDArray[np.bool_], rng: np.random.Generator, copy: int
    ) -> NDArray[np.bool_]:
        if self.stage.fixes_subsets:
            assert case.kept is not None
            kept: NDArray[np.bool_] = case.kept.numpy()
            return kept
        if self.stage.subsets == "one_and_several":
            return several_modalities(present, rng) if copy % 2 else one_modality(present, rng)
        return random_subset(present, rng, "all" if self.stage.single_subset else self.stage.subsets)

    def _case_index(self, index: int) -> int:
        if isinstance(self.cases, SyntheticCases):
            return self.cases.index_of(index)
        turn, place = divmod(index, len(self.cases))
        return int(np.random.default_rng([self.seed, 1, turn]).permutation(len(self.cases))[place])


def _random_sides(stage: Stage, rng: np.random.Generator) -> Sides:
    """Return the sides of a patch before it is resized to the crop, see `Stage.patch_scaling`."""
    if not stage.patch_scaling or rng.random() < 0.5:
        return stage.crop
    scale = rng.uniform(1 - stage.patch_scaling, 1 + stage.patch_scaling)
    x, y, z = (max(1, int(side * scale)) for side in stage.crop)
    return x, y, z


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
    order: list[list[int]] = []
    for step in range(first_step, first_step + steps):
        epoch, number = divmod(step, stage.steps_per_epoch)
        patches = stage.patches_per_epoch - number * stage.batch_size
        size = min(patches, stage.batch_size) // (processes * stage.accumulate)
        first = (epoch + 1) * stage.patches_per_epoch - patches + rank * stage.accumulate * size
        order += [[first + part * size + i for i in range(size)] for part in range(stage.accumulate)]
    loader = DataLoader(Patches(cases, stage, seed), batch_sampler=order, num_workers=workers)
    for images, labels, present, available, corners in loader:
        patch = torch.arange(len(images), device="cpu").repeat_interleave(stage.copies)
        yield Batch(images[patch], labels[patch], present[patch], available.flatten(0, 1), corners[patch], patch)
