"""The contract of a system: encode what does not depend on the subset once, decode it for any subset.

Images are (B, M, X, Y, Z) float, modalities in the order of `System.modalities` (T1, T1c, T2, FLAIR unless a network
was built for fewer). What the voxels of an absent modality hold is never looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from anymri.errors import ModalityError, ShapeError
from anymri.modalities import MODALITIES, parse_modality
from anymri.regions import ScoreKind


@dataclass
class Encoding:
    """What a network computed from the modalities that exist; each system adds its own fields.

    present  (B, M) bool: the modalities that were encoded
    """

    present: Tensor


E = TypeVar("E", bound=Encoding)


@dataclass
class Prediction:
    """A network's answer for one subset.

    scores          (B, K, X, Y, Z), before softmax (`classes`) or sigmoid (`regions`)
    kind            what the K channels are: classes of `anymri.regions.CLASSES`, or WT, TC, ET (and RC)
    reconstruction  (B, M, X, Y, Z): all modalities rebuilt from those available, where asked for and the system can
    """

    scores: Tensor
    kind: ScoreKind
    reconstruction: Tensor | None = None

    def probabilities(self) -> Tensor:
        """(B, K, X, Y, Z) in 0..1: softmax over classes, or one sigmoid a region."""
        return self.scores.softmax(1) if self.kind == "classes" else self.scores.sigmoid()


@dataclass
class Batch:
    """What a training step sees.

    images     (B, M, X, Y, Z) float32, preprocessed
    labels     (B, X, Y, Z) int64 classes
    present    (B, M) bool: scans that exist
    available  (B, M) bool: the subset drawn for this step, within `present`
    corners    (B, 2, 3) int64: where in its scan each crop lies (see `middle_corners`, the default)
    patch      (B,) int64: samples of one number are the same crop with a subset of its own each (default: all differ)
    """

    images: Tensor
    labels: Tensor
    present: Tensor
    available: Tensor
    corners: Tensor = None  # type: ignore[assignment]
    patch: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        corners: Tensor | None = self.corners
        patch: Tensor | None = self.patch
        if corners is None:
            self.corners = middle_corners(len(self.labels), self.labels.shape[1:])
        if patch is None:
            self.patch = torch.arange(len(self.labels))

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(*(tensor.to(device) for tensor in vars(self).values()))


def middle_corners(batch_size: int, sides: Sequence[int]) -> Tensor:
    """Corners of crops from the middle of their scans, (B, 2, 3) int64.

    Corners are the first and the last voxel of a crop on the grid of its scan, counted from the grid's middle, voxel
    n // 2 of n. Where augmentation mirrored an axis, the last comes before the first.
    """
    first = torch.tensor([-(side // 2) for side in sides])
    return torch.stack([first, first + torch.tensor(list(sides)) - 1]).repeat(batch_size, 1, 1)


class System(nn.Module, ABC, Generic[E]):
    """Segments the tumour from any non-empty subset of its modalities.

    scores        what the network answers with: `classes` or `regions`
    divisor       sides of a crop must be multiples of it
    minimum_side  and at least this long, in voxels
    crop          side of the only crop that fits, for networks that learn something of each position; None where any
                  side does that fulfils the above. Windows of inference have this side
    """

    scores: ClassVar[ScoreKind]
    divisor: ClassVar[int] = 1
    minimum_side: ClassVar[int] = 1
    crop: int | None = None

    def __init__(self, num_classes: int = 4, modalities: Sequence[str] = MODALITIES) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.modalities = tuple(parse_modality(name) for name in modalities)

    @property
    def num_scores(self) -> int:
        """Channels of the scores: one a class, or one a region, of which there are as many as classes of tissue."""
        return self.num_classes if self.scores == "classes" else self.num_classes - 1

    def encode(self, images: Tensor, present: Tensor, corners: Tensor | None = None) -> E:
        """Everything that does not depend on the subset; absent modalities are never computed.

        images   (B, M, X, Y, Z); raises `ShapeError` for a shape the network cannot take
        present  (B, M) bool, at least one true in each sample
        corners  (B, 2, 3) int64: where in its scan each crop lies (see `middle_corners`, the default). Only networks
                 that learn something of each place in the head look at it
        """
        self._check_images(images)
        self._check_flags(present, len(images))
        return self._encode(images, present) if corners is None else self._encode_at(images, present, corners)

    def decode(self, encoding: E, available: Tensor, reconstruct: bool = False) -> Prediction:
        """The answer for the subset `available`, (B, M) bool, within what was encoded. Cheap to call 15 times.

        reconstruct  rebuild the images too, where the system can; costs as much as the segmentation or several times it
        """
        self._check_flags(available, len(encoding.present))
        if (available & ~encoding.present).any():
            raise ShapeError(
                "The subset asks for a modality that was not encoded.",
                "Decode subsets of the modalities that were given to encode.",
            )
        return self._decode(encoding, available, reconstruct)

    def forward(self, images: Tensor, available: Tensor, corners: Tensor | None = None) -> Prediction:
        """Encodes and decodes one subset: (B, M, X, Y, Z) and (B, M) bool; for `corners` see `encode`."""
        return self.decode(self.encode(images, available, corners), available)

    def stack(self, scans: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scans by name (any alias, any order), each (B, X, Y, Z), as images (B, M, X, Y, Z) and present (B, M)."""
        named = {parse_modality(name): scan for name, scan in scans.items()}
        foreign = set(named) - set(self.modalities)
        if not named or foreign:
            raise ModalityError(
                f"This network takes {', '.join(self.modalities)}; given: {', '.join(sorted(named)) or 'nothing'}.",
                "Give at least one of its modalities and no other.",
            )
        blank = torch.zeros_like(next(iter(named.values())))
        images = torch.stack([named.get(m, blank) for m in self.modalities], dim=1)
        present = torch.tensor([[m in named for m in self.modalities]], device=blank.device)
        return images, present.repeat(len(blank), 1)

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Inside, weights do not change: a system may compute what follows from them alone once for all calls."""
        yield

    @property
    def rebuilds_images(self) -> bool:
        """Whether `decode` rebuilds the images where it is asked to."""
        return False

    @abstractmethod
    def _encode(self, images: Tensor, present: Tensor) -> E:
        """`encode` after its arguments were checked."""

    def _encode_at(self, images: Tensor, present: Tensor, corners: Tensor) -> E:
        """`_encode` of crops whose place is known; the same for most networks."""
        return self._encode(images, present)

    @abstractmethod
    def _decode(self, encoding: E, available: Tensor, reconstruct: bool) -> Prediction:
        """`decode` after its arguments were checked."""

    def _check_images(self, images: Tensor) -> None:
        expected = f"(B, {len(self.modalities)}, X, Y, Z)"
        if images.ndim != 5 or images.shape[1] != len(self.modalities):
            raise ShapeError(
                f"Images have the shape {tuple(images.shape)}; {type(self).__name__} takes {expected}.",
                f"Give one channel for each of {', '.join(self.modalities)}; absent ones may hold anything.",
            )
        sides = tuple(images.shape[2:])
        usable = self.usable_crop(sides)
        if sides != usable:
            raise ShapeError(
                f"A crop of {'x'.join(map(str, sides))} voxels does not fit {type(self).__name__}: {self.crop_rule()}.",
                f"The nearest crop that works is {'x'.join(map(str, usable))}.",
            )

    def window_origin(self, origin: Tensor) -> Tensor:
        """Where inference takes the first voxel of a volume to lie, (3,) int64; it lies at `origin`, as corners do."""
        return origin

    def crop_rule(self) -> str:
        """Which crops fit, in words."""
        if self.crop is not None:
            return f"it has weights for each position in a cube of {self.crop} voxels and takes no other"
        return f"sides must be multiples of {self.divisor}, at least {self.minimum_side}"

    def usable_side(self, side: int) -> int:
        """The side nearest to `side`, in voxels, of a cube that this network can take."""
        if self.crop is not None:
            return self.crop
        return max(self.minimum_side, self.divisor * max(1, round(side / self.divisor)))

    def usable_crop(self, sides: tuple[int, ...]) -> tuple[int, ...]:
        """The crop nearest to `sides`, in voxels, that this network can take; some take more than cubes allow."""
        return tuple(self.usable_side(side) for side in sides)

    def _check_flags(self, flags: Tensor, batch_size: int) -> None:
        if flags.shape != (batch_size, len(self.modalities)) or flags.dtype != torch.bool:
            raise ShapeError(
                f"The flags of available modalities are {flags.dtype} of shape {tuple(flags.shape)}.",
                f"Give bool of shape ({batch_size}, {len(self.modalities)}), one row a sample.",
            )
        if not flags.any(1).all():
            raise ModalityError(
                "A sample has no modality at all.",
                f"Give at least one of {', '.join(self.modalities)} for every sample.",
            )
