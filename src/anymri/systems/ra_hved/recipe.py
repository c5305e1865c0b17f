"""Recipes of RA-HVED, trained by the family's objectives. Source: sheet ra_hved, sections 5 and 6."""

from __future__ import annotations

from anymri.systems.hved import NANO_STAGES
from anymri.systems.recipes import Optimiser, Recipe, Stage

RECIPES = {
    "published": Recipe(
        system="ra_hved",
        about="As the authors train it on BraTS 2018. Cost: 71,640 steps of 112^3, about 3.3 T multiply-adds each, 1.4 "
        "of them in the discriminator. Dice by subset: not available for this recipe. Deviations: both passes of a "
        "step share one encoding and so one dropout mask, all 14 incomplete subsets are drawn (stage option subsets: "
        "by_size_reference for the authors' 13), intensities are also scaled and changed per channel, windows are "
        "blended with Gaussian weights.",
        network={"width": 16},
        validation_share=0.125,
        window_overlap=0.75,
        seed=1,
        stages=[
            Stage(
                objective="adversarial",
                epochs=360,
                steps_per_epoch=199,
                crop=112,
                subsets="by_size",
                optimiser=Optimiser(learning_rate=1e-4, weight_decay=1e-5),
                schedule="poly",
                validation_epochs=20,
            )
        ],
    ),
    "nano": Recipe(
        system="ra_hved",
        about="For a laptop without a GPU: on 24 phantoms of 96^3 seven minutes on two cores, WT Dice 0.83 with all "
        "four modalities. As published: adversarial, incomplete subsets by size. Not as published: the images are "
        "learnt first, one decoder rebuilds them all, the discriminator is narrow.",
        network={"width": 8, "shared_reconstruction": True},
        validation_share=0.05,
        stages=NANO_STAGES,
    ),
}
