"""Base classes of the systems that draw their features from posteriors: U-HVED, RA-HVED and XLSTM-HVED."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anymri.layers.gaussians import Gaussians, Posterior
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.contract import E, Encoding, Prediction
from anymri.systems.streams import StreamSystem


@dataclass
class GaussiansEncoding(Encoding):
    """Gaussians of the modalities that exist.

    gaussians  one entry per scale, finest first, each with one Gaussian per modality
    """

    gaussians: list[Gaussians]


@dataclass
class HVEDPrediction(Prediction):
    """Prediction with the posteriors that the features were drawn from.

    posteriors  one per scale, finest first; the loss needs them
    """

    posteriors: Sequence[Posterior] = ()


def standard_normal(like: Tensor) -> Tensor:
    """Return noise of the shape of a tensor; its values do not depend on the layout of the tensor in memory."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device)


class VariationalSystem(StreamSystem[E]):
    """System that draws its features from one posterior per scale.

    draw_noise  function of a tensor that returns standard-normal noise of its shape; called in training, finest scale
                first. A parity test puts fixed noise here
    """

    def __init__(self, num_classes: int, modalities: Sequence[str] = MODALITIES) -> None:
        super().__init__(num_classes, modalities)
        self.draw_noise: Callable[[Tensor], Tensor] = standard_normal

    def latent(self, posterior: Posterior) -> Tensor:
        """Return features (B, C, X, Y, Z): a sample of the posterior in training, its mean in evaluation."""
        return posterior.sample(self.draw_noise(posterior.mean)) if self.training else posterior.mean


class HVED(VariationalSystem[E]):
    """Variational system of regions that can reconstruct the images without a segmentation: RA-HVED and XLSTM-HVED."""

    output_kind: ClassVar[OutputKind] = "regions"
    divisor = 16
    # Instance norm needs more than one voxel in the coarsest latent.
    minimum_side = 32

    @property
    def reconstructs(self) -> bool:
        """Whether `decode` can reconstruct the images: always."""
        return True

    @abstractmethod
    def reconstruct(self, encoding: E, available: Tensor) -> tuple[Tensor, list[Posterior]]:
        """Reconstruct all images from one subset without computing the segmentation.

        available  (B, M) bool, within `encoding.present`
        returns    images (B, M, X, Y, Z), and the posteriors that they were drawn from, finest scale first
        """
