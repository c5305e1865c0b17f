"""Recipes of SFusion, trained by the objective that it shares with Robust-Mseg. Source: sheet sfusion, Training."""

from __future__ import annotations

from anymri.systems.recipes import Optimiser, Recipe, Stage
from anymri.systems.sfusion import CARD
from anymri.systems.stages import one_crop

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
RECIPES = {
    "published": Recipe(
        system="sfusion",
        about="As the port trains it on BraTS 2023 (IM-Fuse repository, folder SFusion). Cost: 174,400 steps of 128^3, "
        "about 1.7 T multiply-adds a pass. Dice by subset: not published for this recipe. Deviations: turns by any "
        "angle within 10 degrees instead of whole ones, with the edge's values around instead of -1; learning rates "
        "not rounded to 8 decimals; windows blended with Gaussian weights instead of counted; an epsilon in the image "
        "decoders' norms (switch styled_eps), where the port had to leave three cases out of training. The original's "
        "divergence, as many times as strong as there are channels, is the objective train_summed_divergence.",
        network=dict(PUBLISHED),
        validation_share=0.125,
        seed=999,
        stages=[
            Stage(
                epochs=200,
                steps_per_epoch=872,
                crop=PUBLISHED["crop"],
                augmentation="rotate_flip",
                optimiser=Optimiser(learning_rate=1e-4, weight_decay=1e-4, amsgrad=True),
                schedule="poly",
                validation_epochs=(*(10, 15, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 110, 130, 150, 175, 200),),
            )
        ],
    ),
    "nano": Recipe(
        system="sfusion",
        about="For a laptop without a GPU: on 24 phantoms of 96^3 nine minutes on two cores, WT Dice 0.76 with all "
        "four modalities. No styles and no images, which are most of the cost of a step. The network takes one crop "
        "only: first around each part of a tumour, then where healthy tissue is too.",
        network=dict(NANO),
        validation_share=0.05,
        stages=one_crop(NANO["crop"], learning_rate=8e-3),
    ),
}
