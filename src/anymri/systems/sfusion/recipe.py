"""Recipes of SFusion; the objective is that of the disentangling family. Source: sheet sfusion, Training."""

from __future__ import annotations

from dataclasses import replace

from anymri.systems.protocol import IM_FUSE_FAMILY
from anymri.systems.recipes.corrections import IM_FUSE_BOX, WHOLE_BOX, Correction, corrected
from anymri.systems.recipes.nano import FOR_A_LAPTOP, one_crop
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import LISTED_SHARE, OUR_DRAWS, OUR_SPLIT, OURS
from anymri.systems.sfusion import CARD

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
REFERENCE = Recipe(
    system="sfusion",
    about="As the port trains it on BraTS 2023 (IM-Fuse repository, folder SFusion). Cost: 174,400 steps of 128^3, "
    "about 1.7 T multiply-adds per pass. Dice by subset: not published for this recipe. The original's divergence, "
    "as many times as strong as there are channels, is the objective train_summed_divergence.",
    source="sheet sfusion, Training (port)",
    sources={
        "network": "sheet sfusion, Architecture",
        "objective": "sheet sfusion, Losses (port)",
        "preprocessing": "sheet robust_mseg, Training (port)",
        "validation_share": LISTED_SHARE,
        "window_overlap": "sheet sfusion, Inference",
        "window_blending": "sheet sfusion, Inference",
        "augmentation": "sheet robust_mseg, Training (port)",
    },
    deviations=(OUR_SPLIT, OUR_DRAWS),
    network={**PUBLISHED, "styled_eps": 0.0},
    preprocessing=IM_FUSE_BOX,
    validation_share=0.125,
    window_blending="constant",
    seed=999,
    stages=[
        Stage(
            epochs=200,
            steps_per_epoch=872,
            crop=PUBLISHED["crop"],
            augmentation="rotate_flip",
            # The port's blocks run for a single modality too, and receive a gradient of zero.
            optimiser=Optimiser(
                learning_rate=1e-4, weight_decay=1e-4, amsgrad=True, zero_gradient_updates=("fusions",)
            ),
            schedule="poly_rounded",
            validation_epochs=(*(10, 15, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 110, 130, 150, 175, 200),),
        )
    ],
)

PROTOCOL = replace(
    IM_FUSE_FAMILY,
    differences=(
        *IM_FUSE_FAMILY.differences,
        "Rows that the authors name FLAIR, T1c, T1 and T2 are made from T1c, T1, T2 and FLAIR; here from what their "
        "name says.",
    ),
)

RECIPES = {
    "corrected": corrected(
        REFERENCE,
        (
            *WHOLE_BOX,
            Correction(
                "network.styled_eps",
                1e-5,
                "Constant images divide by zero otherwise: the authors excluded three cases from training.",
            ),
        ),
    ),
    "reference": REFERENCE,
    "nano": Recipe(
        system="sfusion",
        about=f"{FOR_A_LAPTOP} Without styles and images, which are most of the cost of a step. The network takes one "
        "crop only: first around each region of a tumour, then in healthy tissue too.",
        source=OURS,
        network=dict(NANO),
        validation_share=0.05,
        stages=one_crop(NANO["crop"], learning_rate=1.6e-2),
    ),
}
