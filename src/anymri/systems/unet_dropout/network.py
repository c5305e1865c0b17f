"""Baseline: MONAI's residual U-Net over all modalities, with a constant in place of a missing one.

It fuses in its first convolution, so that subsets cannot share an encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from anymri.errors import ConfigurationError
from anymri.extras import need
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.contract import Encoding, Prediction, System

LEVELS = 5
# Number of resolutions with a loss. As in nnU-Net, all of the decoder's but the coarsest.
SUPERVISED = LEVELS - 2
NEGATIVE_SLOPE = 0.01


@dataclass
class UNetDropoutEncoding(Encoding):
    """Encoding of the baseline: only the images, because the network fuses the modalities first.

    images  (B, M, X, Y, Z) as given
    """

    images: Tensor


@dataclass(kw_only=True)
class UNetDropoutPrediction(Prediction):
    """Prediction with the outputs of deep supervision.

    deep_supervision  in training, logits of the next resolutions, each half the one before
    """

    deep_supervision: Sequence[Tensor]


class UNetDropout(System[UNetDropoutEncoding]):
    """Residual U-Net over all modalities, with a constant in place of each missing one.

    width        channels at full resolution, doubled at each of the next levels
    num_classes  classes, background included
    blocks       residual blocks of each level of the encoder, finest first; the decoder has one per level
    substitute   replacement of a missing modality: `learnt`, a constant per modality, or `zeros`
    """

    output_kind: ClassVar[OutputKind] = "classes"
    divisor = 2 ** (LEVELS - 1)
    # Instance norm needs more than one voxel at the coarsest level.
    minimum_side = 2 * divisor

    def __init__(
        self,
        width: int = 32,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        blocks: Sequence[int] = (1, 2, 2, 4, 4),
        substitute: Literal["learnt", "zeros"] = "learnt",
    ) -> None:
        super().__init__(num_classes, modalities)
        if len(blocks) != LEVELS:
            raise ConfigurationError(
                f"The network cannot be built with blocks of {len(blocks)} levels: it has {LEVELS}.",
                "Give as many numbers, as in blocks=[1,2,2,4,4].",
            )
        need("train", "monai", purpose="The network of unet_dropout")
        # Imported here, because the import takes seconds.
        from monai.networks.nets.segresnet_ds import SegResNetDS

        self.unet = SegResNetDS(
            init_filters=width,
            in_channels=len(self.modalities),
            out_channels=num_classes,
            act=("leakyrelu", {"negative_slope": NEGATIVE_SLOPE}),
            norm="instance",
            blocks_down=tuple(blocks),
            dsdepth=SUPERVISED,
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
        blank = torch.zeros(1, len(self.modalities), 1, 1, 1)
        self.substitute = nn.Parameter(blank) if substitute == "learnt" else None

    def train(self, mode: bool = True) -> Self:
        """Set the mode; in evaluation, only the head at full resolution runs."""
        self.unet.dsdepth = SUPERVISED if mode else 1
        return super().train(mode)

    def _encode(self, images: Tensor, present: Tensor) -> UNetDropoutEncoding:
        return UNetDropoutEncoding(present, images)

    def _decode(self, encoding: UNetDropoutEncoding, available: Tensor, reconstruct: bool) -> UNetDropoutPrediction:
        images = encoding.images
        substitute = torch.zeros_like(images) if self.substitute is None else self.substitute.to(images.dtype)
        output = self.unet(torch.where(available[..., None, None, None], images, substitute))
        logits, *deep_supervision = output if self.training else [output]
        return UNetDropoutPrediction(logits, self.output_kind, deep_supervision=deep_supervision)
