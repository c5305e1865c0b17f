"""Recipes of IM-Fuse, trained by the objective that it shares with mmFormer. Source: sheet im_fuse, Training."""

from __future__ import annotations

from anymri.systems.im_fuse import CARD
from anymri.systems.recipes import Optimiser, Recipe, Stage
from anymri.systems.stages import one_crop

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
RECIPES = {
    "published": Recipe(
        system="im_fuse",
        about="The paper's network, trained as the authors' command trains on BraTS 2023 (that command leaves out the "
        "first skip: --set network.first_skip=false). Cost: 875,000 steps of 128^3. Dice by subset: not in the sources "
        "at hand; about 83.3 on average (sheet, Published results). Deviations: turns by any angle within 10 degrees "
        "instead of whole ones, with the edge's values around instead of -1; intensities changed per channel instead "
        "of per slice; learning rates not rounded to 8 decimals; windows blended with Gaussian weights instead of "
        "counted.",
        network=dict(PUBLISHED),
        validation_share=0.125,
        seed=999,
        stages=[
            Stage(
                epochs=1000,
                steps_per_epoch=875,
                crop=PUBLISHED["crop"],
                augmentation="rotate_flip_intensity",
                optimiser=Optimiser(name="radam", learning_rate=2e-4, weight_decay=3e-5),
                schedule="poly",
                validation_epochs=(
                    50,
                    100,
                    150,
                    *range(200, 801, 100),
                    850,
                    *range(900, 951, 10),
                    *range(955, 1001, 5),
                ),
            )
        ],
    ),
    "nano": Recipe(
        system="im_fuse",
        about="For a laptop without a GPU: on 24 phantoms of 96^3 nine minutes on two cores, WT Dice 0.77 with all "
        "four modalities, TC and ET half of that. The network takes one crop only: first around each part of a "
        "tumour, then where healthy tissue is too.",
        network=dict(NANO),
        validation_share=0.05,
        stages=one_crop(NANO["crop"], learning_rate=8e-3, rounds=3),
    ),
}
