"""Training objective of mmFormer and IM-Fuse: the fused output, each modality alone, and all levels of the decoder.

Each of these outputs is supervised by a weighted cross-entropy and a soft Dice: 18 terms with four modalities, all of
weight 1. Source: sheet mmformer, Loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from anymri.systems.batch import Batch
from anymri.systems.contract import Encoding, Prediction, System
from anymri.systems.losses import StepLoss, class_channels, soft_dice_loss, weighted_cross_entropy_loss


@dataclass
class TokenEncoding(Encoding):
    """Encoding with a segmentation from each modality alone.

    alone  (B, M, K, X, Y, Z) logits from each modality alone, zero where it is missing; None outside training
    """

    alone: Tensor | None


@dataclass
class TokenPrediction(Prediction):
    """Prediction with logits for deep supervision.

    deep_supervision  logits of the coarser decoder levels, finest first, each (B, K, X', Y', Z') at the resolution of
                      its level; empty outside training
    """

    deep_supervision: Sequence[Tensor] = ()

    def deep_supervision_probabilities(self) -> list[Tensor]:
        """Return the probabilities of each level of `deep_supervision`, upsampled to (B, K, X, Y, Z), in 0..1.

        As published, softmax comes before upsampling.
        """
        full = self.logits.shape[2:]
        return [interpolate(s.softmax(1), full, mode="trilinear", align_corners=True) for s in self.deep_supervision]


def losses(system: System[TokenEncoding], batch: Batch) -> StepLoss:
    """Return the losses of one step; `total` is their sum.

    Every modality that exists is trained to segment alone, also when it is not in the subset of the step.
    """
    encoding = system.encode(batch.images, batch.present)
    prediction = system.decode(encoding, batch.available)
    assert isinstance(prediction, TokenPrediction) and encoding.alone is not None
    target = class_channels(batch.labels, system.num_classes)
    named = _supervised("fused", prediction.probabilities(), target)
    for number, modality in enumerate(system.modalities):
        exists = batch.present[:, number]
        if exists.any():
            named |= _supervised(f"alone_{modality}", encoding.alone[exists, number].softmax(1), target[exists])
    for level, probabilities in enumerate(prediction.deep_supervision_probabilities(), start=1):
        named |= _supervised(f"level{level}", probabilities, target)
    return StepLoss(torch.stack(list(named.values())).sum(), named)


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the weighted cross-entropy and the soft Dice of one segmentation.

    probabilities  (B, K, X, Y, Z) in 0..1
    labels         (B, X, Y, Z) int64 classes
    """
    return _supervised("fused", probabilities, class_channels(labels, probabilities.shape[1]))


def _supervised(name: str, probabilities: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return both losses of one output by name; `target` is (B, K, X, Y, Z), one-hot."""
    return {
        f"{name}_ce": weighted_cross_entropy_loss(probabilities, target),
        f"{name}_dice": soft_dice_loss(probabilities, target),
    }


OBJECTIVES: dict[str, Callable[..., StepLoss]] = {"train": losses}
