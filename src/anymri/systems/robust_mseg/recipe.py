"""Recipes of Robust-Mseg; the objective is that of the disentangling family. Source: sheet robust_mseg, Training."""

from __future__ import annotations

from anymri.systems.recipes.corrections import IM_FUSE_BOX, WHOLE_BOX, Correction, corrected
from anymri.systems.recipes.nano import FOR_A_LAPTOP, large_patches, small_patches
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import LISTED_SHARE, OUR_DRAWS, OUR_SPLIT, OURS
from anymri.systems.robust_mseg import CARD

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
REFERENCE = Recipe(
    system="robust_mseg",
    about="As the PyTorch port trains it on BraTS 2023 (IM-Fuse repository, folder RobustSeg). Cost: 262,500 steps "
    "of 80^3, about 0.42 T multiply-adds per pass. Dice by subset: not published for this recipe. The original's "
    "divergence, 128 times as strong, is the objective train_summed_divergence.",
    source="sheet robust_mseg, Training (port)",
    sources={
        "network": "sheet robust_mseg, Architecture",
        "objective": "sheet robust_mseg, Losses (port)",
        "validation_share": LISTED_SHARE,
        "window_overlap": "sheet robust_mseg, Inference",
        "window_blending": "sheet robust_mseg, Inference",
        "optimiser.zero_gradient_updates": "sheet robust_mseg, Port versus original, and other quirks",
    },
    deviations=(OUR_SPLIT, OUR_DRAWS),
    network={**PUBLISHED, "constant_dropout": True},
    preprocessing=IM_FUSE_BOX,
    validation_share=0.125,
    window_blending="constant",
    seed=999,
    stages=[
        Stage(
            epochs=300,
            steps_per_epoch=875,
            crop=PUBLISHED["crop"],
            augmentation="rotate_flip_intensity",
            # In the port, missing content is zeroed, so that its encoder receives a gradient of zero.
            optimiser=Optimiser(
                learning_rate=1e-4, weight_decay=1e-4, amsgrad=True, zero_gradient_updates=("content_encoders",)
            ),
            schedule="poly_rounded",
            validation_epochs=(
                *(10, 15, 20, 25, 30, 40, 50, 60, 70, 90, 110, 130, 150, 175, 200, 225, 250),
                *(260, 270, 275, 280, 285, 290, 295, 300),
            ),
        )
    ],
)

RECIPES = {
    "corrected": corrected(
        REFERENCE,
        (
            *WHOLE_BOX,
            Correction(
                "network.constant_dropout", False, "Validation without dropout is reproducible; the port leaves it on."
            ),
        ),
    ),
    "reference": REFERENCE,
    "nano": Recipe(
        system="robust_mseg",
        about=f"{FOR_A_LAPTOP} Without styles and images, which are most of the cost of a step.",
        source=OURS,
        network=dict(NANO),
        validation_share=0.05,
        stages=[
            small_patches(epochs=4),
            large_patches(64, epochs=3, steps_per_epoch=25, batch_size=2),
        ],
    ),
}
