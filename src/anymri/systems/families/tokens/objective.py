"""Training objective of mmFormer and IM-Fuse: the fused output, each modality alone, and all levels of the decoder.

Each of these outputs is supervised by a weighted cross-entropy and a soft Dice: 18 terms with four modalities, all of
weight 1. Source: sheet mmformer, Loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anymri.layers.upsampling import upsampled
from anymri.systems.batch import Batch
from anymri.systems.contract import Encoding, Prediction, System
from anymri.systems.losses import StepLoss, class_channels, cross_entropy_and_dice, rarity_weights


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
        return [upsampled(each.softmax(1), self.logits.shape[2:]) for each in self.deep_supervision]


def losses(system: System[TokenEncoding], batch: Batch) -> StepLoss:
    """Return the losses of one step; `total` is their sum.

    Every modality that exists is trained to segment alone, also when it is not in the subset of the step.
    """
    encoding = system.encode(batch.images, batch.present)
    prediction = system.decode(encoding, batch.available)
    assert isinstance(prediction, TokenPrediction) and encoding.alone is not None
    target = class_channels(batch.labels, system.num_classes).contiguous()
    weights = rarity_weights(target)
    named = _supervised("fused", prediction.probabilities(), target, weights)
    for modality, logits, exists in zip(system.modalities, encoding.alone.unbind(1), batch.present.T, strict=True):
        if exists.any():
            some = (each if exists.all() else each[exists] for each in (logits.softmax(1), target, weights))
            named |= _supervised(f"alone_{modality}", *some)
    for level, probabilities in enumerate(prediction.deep_supervision_probabilities(), start=1):
        named |= _supervised(f"level{level}", probabilities, target, weights)
    return StepLoss(torch.stack(list(named.values())).sum(), named)


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the weighted cross-entropy and the soft Dice of one segmentation.

    probabilities  (B, K, X, Y, Z) in 0..1
    labels         (B, X, Y, Z) int64 classes
    """
    target = class_channels(labels, probabilities.shape[1])
    return _supervised("fused", probabilities, target, rarity_weights(target))


def _supervised(name: str, probabilities: Tensor, target: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Return both losses of one output by name; see `cross_entropy_and_dice`."""
    cross_entropy, dice = cross_entropy_and_dice(probabilities, target, weights)
    return {f"{name}_ce": cross_entropy, f"{name}_dice": dice}


OBJECTIVES: dict[str, Callable[..., StepLoss]] = {"train": losses}
