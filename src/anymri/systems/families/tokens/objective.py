"""The objective that mmFormer and IM-Fuse share: the fused answer, each modality's own and those of deep_supervision levels.

Each is judged by a weighted cross-entropy and a soft Dice: 18 terms with four modalities, all of weight 1. Source:
sheet mmformer, Loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from anymri.systems.batch import Batch
from anymri.systems.contract import Encoding, Prediction, System
from anymri.systems.losses import StepLoss, class_channels, soft_dice_loss, weighted_cross_entropy_loss


@dataclass
class TokenEncoding(Encoding):
    """alone  in training, logits from each modality alone, (B, M, K, X, Y, Z), zero where one is absent."""

    alone: Tensor | None


@dataclass
class TokenPrediction(Prediction):
    """deep_supervision  in training, logits of the decoder's other levels, finest first, each in its own resolution."""

    deep_supervision: Sequence[Tensor] = ()

    def deep_supervision_probabilities(self) -> list[Tensor]:
        """Probabilities of those levels, (B, K, X, Y, Z): as published, softmax comes first, then full resolution."""
        full = self.logits.shape[2:]
        return [interpolate(s.softmax(1), full, mode="trilinear", align_corners=True) for s in self.deep_supervision]


def losses(system: System[Any], batch: Batch) -> StepLoss:
    """Losses of one step; the total is their sum.

    All modalities that exist learn to segment alone, those left out of the step's subset too.
    """
    encoding = system.encode(batch.images, batch.present)
    prediction = system.decode(encoding, batch.available)
    assert isinstance(encoding, TokenEncoding) and isinstance(prediction, TokenPrediction)
    assert encoding.alone is not None
    target = class_channels(batch.labels, system.num_classes)
    named = _judged("fused", prediction.probabilities(), target)
    for number, modality in enumerate(system.modalities):
        exists = batch.present[:, number]
        if exists.any():
            named |= _judged(f"alone_{modality}", encoding.alone[exists, number].softmax(1), target[exists])
    for level, probabilities in enumerate(prediction.deep_supervision_probabilities(), start=1):
        named |= _judged(f"level{level}", probabilities, target)
    return StepLoss(torch.stack(list(named.values())).sum(), named)


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Weighted cross-entropy and soft Dice of (B, K, X, Y, Z) against classes (B, X, Y, Z)."""
    return _judged("fused", probabilities, class_channels(labels, probabilities.shape[1]))


def _judged(name: str, probabilities: Tensor, target: Tensor) -> dict[str, Tensor]:
    return {
        f"{name}_ce": weighted_cross_entropy_loss(probabilities, target),
        f"{name}_dice": soft_dice_loss(probabilities, target),
    }


OBJECTIVES: dict[str, Callable[..., StepLoss]] = {"train": losses}
