"""The contract of a system: encode what does not depend on the subset once, then decode it for any subset.

Images are (B, M, X, Y, Z) float, modalities in the order of `System.modalities` (T1, T1c, T2, FLAIR unless a network
was built for fewer). The voxels of a missing modality are never read, so they may hold anything, NaN included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from anymri.errors import ConfigurationError, ModalityError, ShapeError
from anymri.modalities import MODALITIES, parse_modality
from anymri.regions import CLASSES, OutputKind
from anymri.systems.computation import Computation
from anymri.systems.crops import Sides, in_words


@dataclass
class Encoding:
    """Encoding: everything that a network computes before a subset is chosen. Systems add fields.

    present  (B, M) bool: the modalities that were encoded
    """

    present: Tensor


E = TypeVar("E", bound=Encoding)


@dataclass
class Prediction:
    """Output of a network for one subset.

    logits          (B, K, X, Y, Z), before softmax (`classes`) or sigmoid (`regions`)
    kind            meaning of the K channels: classes of `anymri.regions.CLASSES`, or the regions WT, TC, ET (and RC)
    reconstruction  (B, M, X, Y, Z): all modalities reconstructed from the available ones; None unless requested and
                    the system reconstructs
    """

    logits: Tensor
    kind: OutputKind
    reconstruction: Tensor | None = None

    def probabilities(self) -> Tensor:
        """Return probabilities, (B, K, X, Y, Z) in 0..1: softmax over classes, or one sigmoid per region."""
        return self.logits.softmax(1) if self.kind == "classes" else self.logits.sigmoid()


class System(nn.Module, ABC, Generic[E]):
    """Network that segments the tumour from any non-empty subset of its modalities.

    Subclasses implement `_encode` and `_decode` and declare:

    output_kind         meaning of the output channels: `classes` or `regions`
    divisor             the sides of a crop must be multiples of it
    minimum_side        shortest side of a crop, in voxels
    crop                sides of the only crop that fits, for networks with weights per position; None where all fit
                        that fulfil the above. Inference uses windows of these sides
    uses_crop_position  whether the network depends on the position of a crop in its scan (`corners`)

    graph_obstacle  why the network cannot be exported as a graph, as the end of a sentence; None where it can

    computation  how `encode` and `decode` are computed; lanes of inference replace it, see `anymri.inference.lanes`
    """

    output_kind: ClassVar[OutputKind]
    divisor: int = 1
    minimum_side: int = 1
    crop: Sides | None = None
    uses_crop_position: ClassVar[bool] = False
    graph_obstacle: ClassVar[str | None] = None
    computation = Computation()

    def __init__(self, num_classes: int = 4, modalities: Sequence[str] = MODALITIES) -> None:
        super().__init__()
        if not 2 <= num_classes <= len(CLASSES):
            raise ConfigurationError(
                f"A network cannot have {num_classes} classes.", f"Choose 2 to {len(CLASSES)}, with the background."
            )
        self.num_classes = num_classes
        self.modalities = tuple(parse_modality(name) for name in modalities)
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ModalityError(
                f"A network cannot be built for the modalities {list(self.modalities)}.",
                f"Give one or more of {', '.join(MODALITIES)}, each once.",
            )

    @property
    def out_channels(self) -> int:
        """Number of output channels: one per class, or one per region (as many as classes without background)."""
        return self.num_classes if self.output_kind == "classes" else self.num_classes - 1

    @property
    def reconstructs(self) -> bool:
        """Whether `decode` can reconstruct the images."""
        return False

    @property
    def divergence_advice(self) -> str | None:
        """What to change, beside the learning rate, when the loss is not finite; None without any advice."""
        return None

    def encode(self, images: Tensor, present: Tensor, corners: Tensor | None = None) -> E:
        """Return everything that does not depend on the subset; missing modalities are not computed.

        images   (B, M, X, Y, Z) float
        present  (B, M) bool, at least one true per sample
        corners  (B, 2, 3) int64: position of each crop in its scan, see `anymri.systems.batch.middle_corners` (the
                 default). Read only where the system `uses_crop_position`

        Raises `ShapeError` for a shape that the network cannot take, `ModalityError` for a sample without modality.
        """
        self._check_images(images)
        self._check_flags(present, len(images))
        encoding: E = self.computation.encode(self, images, present, corners)
        return encoding

    def decode(self, encoding: E, available: Tensor, reconstruct: bool = False) -> Prediction:
        """Return the prediction for one subset of the encoded modalities.

        available    (B, M) bool, within `encoding.present`
        reconstruct  reconstruct the images too, where the system can; costs as much as the segmentation or several
                     times as much
        """
        self._check_flags(available, len(encoding.present))
        if (available & ~encoding.present).any():
            raise ShapeError(
                "The subset contains a modality that was not encoded.",
                "Decode subsets of the modalities that were given to encode.",
            )
        return self.computation.decode(self, encoding, available, reconstruct)

    def forward(self, images: Tensor, available: Tensor, corners: Tensor | None = None) -> Prediction:
        """Return the prediction for one subset from the images themselves.

        images     (B, M, X, Y, Z) float
        available  (B, M) bool
        corners    see `encode`
        """
        return self.decode(self.encode(images, available, corners), available)

    def stack(self, scans: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return named scans as the arguments of `encode`: images (B, M, X, Y, Z) and present (B, M) bool.

        scans  any alias of a modality -> (B, X, Y, Z) float, in any order
        """
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
    def folded_weights(self) -> Iterator[None]:
        """Context in which the weights stay as they are: a system may compute what depends on them alone only once."""
        yield

    def window_origin(self, origin: Tensor) -> Tensor:
        """Return the position that inference assumes for the first voxel of a volume, (3,) int64.

        origin  its true position, (3,) int64, in voxels from the middle of the scan's grid

        Called only where the system `uses_crop_position`.
        """
        return origin

    @abstractmethod
    def _encode(self, images: Tensor, present: Tensor) -> E:
        """Return the encoding; `encode` has checked the arguments."""

    def _encode_at(self, images: Tensor, present: Tensor, corners: Tensor) -> E:
        """Return the encoding of crops with a known position, for systems that use it."""
        return self._encode(images, present)

    @abstractmethod
    def _decode(self, encoding: E, available: Tensor, reconstruct: bool) -> Prediction:
        """Return the prediction; `decode` has checked the arguments."""

    def crop_rule(self) -> str:
        """Return the rule that crops must fulfil, in words."""
        if self.crop is not None:
            return f"it has weights for each position in {in_words(self.crop)} and takes no other"
        return f"sides must be multiples of {self.divisor}, at least {self.minimum_side}"

    def usable_crop(self, sides: Sides) -> Sides:
        """Return the sides of the crop nearest to `sides`, in voxels, that the network can take."""
        if self.crop is not None:
            return self.crop
        x, y, z = map(self._usable_side, sides)
        return x, y, z

    def covering_crop(self, sides: Sides) -> Sides:
        """Return the sides of the smallest crop, in voxels, that the network can take and that has at least `sides`."""
        if self.crop is not None:
            return self.crop
        x, y, z = (max(self.minimum_side, self.divisor * ceil(side / self.divisor)) for side in sides)
        return x, y, z

    def _usable_side(self, side: int) -> int:
        """Return the side nearest to `side` that fulfils the rule of divisor and minimum."""
        return max(self.minimum_side, self.divisor * max(1, round(side / self.divisor)))

    def _check_images(self, images: Tensor) -> None:
        expected = f"(B, {len(self.modalities)}, X, Y, Z)"
        if images.ndim != 5 or images.shape[1] != len(self.modalities):
            raise ShapeError(
                f"Images have the shape {tuple(images.shape)}; {type(self).__name__} takes {expected}.",
                f"Give one channel per modality ({', '.join(self.modalities)}); missing ones may hold anything.",
            )
        x, y, z = images.shape[2:]
        sides = (x, y, z)
        usable = self.usable_crop(sides)
        if sides != usable:
            raise ShapeError(
                f"A crop of {'x'.join(map(str, sides))} voxels does not fit {type(self).__name__}: {self.crop_rule()}.",
                f"The nearest crop that works is {'x'.join(map(str, usable))}.",
            )

    def _check_flags(self, flags: Tensor, batch_size: int) -> None:
        if flags.shape != (batch_size, len(self.modalities)) or flags.dtype != torch.bool:
            raise ShapeError(
                f"The flags of available modalities are {flags.dtype} of shape {tuple(flags.shape)}.",
                f"Give bool of shape ({batch_size}, {len(self.modalities)}), one row per sample.",
            )
        if not flags.any(1).all():
            raise ModalityError(
                "A sample has no modality.",
                f"Give at least one of {', '.join(self.modalities)} for every sample.",
            )
