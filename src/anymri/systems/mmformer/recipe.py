"""Recipes of mmFormer, trained by the objective that it shares with IM-Fuse. Source: sheet mmformer, Training."""

from __future__ import annotations

from anymri.systems.mmformer import CARD
from anymri.systems.recipes import Optimiser, Recipe, Stage
from anymri.systems.stages import one_crop

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
RECIPES = {
    "published": Recipe(
        system="mmformer",
        about="As IM-Fuse's repository trains it on BraTS 2023. Cost: 292,000 steps of three patches of 128^3, about "
        "0.24 T multiply-adds a patch and pass. Dice by subset: sheet, Published results (others' training on BraTS "
        "2024). The authors keep the last weights (checkpoints/last) and validate nothing. Deviations: learning "
        "rates not rounded to 8 decimals; windows blended with Gaussian weights instead of counted.",
        network=dict(PUBLISHED),
        validation_share=0.125,
        seed=999,
        stages=[
            Stage(
                epochs=1000,
                steps_per_epoch=292,
                batch_size=3,
                crop=PUBLISHED["crop"],
                augmentation="rotate_flip_intensity",
                optimiser=Optimiser(learning_rate=2e-4, weight_decay=1e-4, amsgrad=True),
                schedule="poly",
                validation_epochs=50,
            )
        ],
    ),
    "nano": Recipe(
        system="mmformer",
        about="For a laptop without a GPU: on 24 phantoms of 96^3 six minutes on two cores, WT Dice 0.82 with all "
        "four modalities. The network takes one crop only: first around each part of a tumour, then where healthy "
        "tissue is too.",
        network=dict(NANO),
        validation_share=0.05,
        stages=one_crop(NANO["crop"], learning_rate=8e-3),
    ),
}
