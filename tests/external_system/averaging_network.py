"""Network, objective and recipe of Averaging."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anymri.modalities import MODALITIES
from anymri.systems.contract import Encoding, Prediction, System
from anymri.systems.losses import StepLoss, class_channels, cross_entropy_loss, soft_dice_loss
from anymri.systems.recipes.schema import Recipe, Stage


@dataclass
class AveragingEncoding(Encoding):
    """Encoding that keeps the images (B, M, X, Y, Z): they are averaged once the subset is known."""

    images: Tensor


class Averaging(System[AveragingEncoding]):
    """One linear classifier for all voxels of the mean image."""

    output_kind = "classes"

    def __init__(self, num_classes=4, modalities=MODALITIES):
        super().__init__(num_classes, modalities)
        self.classify = nn.Conv3d(1, num_classes, 1)

    def _encode(self, images, present):
        return AveragingEncoding(present, images)

    def _decode(self, encoding, available, reconstruct):
        images = encoding.images.masked_fill(~available[..., None, None, None], 0)
        mean = images.sum(1, keepdim=True) / available.sum(1)[:, None, None, None, None]
        return Prediction(self.classify(mean), self.output_kind)


def segmentation_losses(probabilities, labels):
    """Return soft Dice loss and cross-entropy of probabilities (B, K, X, Y, Z) and classes (B, X, Y, Z)."""
    target = class_channels(labels, probabilities.shape[1])
    return {"dice": soft_dice_loss(probabilities, target), "ce": cross_entropy_loss(probabilities, target)}


def losses(system, batch):
    """Return the loss of one step."""
    terms = segmentation_losses(system(batch.images, batch.available).probabilities(), batch.labels)
    return StepLoss(torch.stack([*terms.values()]).sum(), terms)


OBJECTIVES = {"train": losses}
RECIPES = {
    "nano": Recipe(
        system="averaging",
        about="One step of two small patches.",
        network={},
        stages=[Stage(epochs=1, steps_per_epoch=1, batch_size=2, crop=17)],
    )
}
