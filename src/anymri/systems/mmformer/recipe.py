"""Recipes of mmFormer; the objective is shared with IM-Fuse. Source: sheet mmformer, Training."""

from __future__ import annotations

from anymri.systems.mmformer import CARD
from anymri.systems.recipes.corrections import IM_FUSE_BOX, WHOLE_BOX, corrected
from anymri.systems.recipes.nano import FOR_A_LAPTOP, one_crop
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import LISTED_SHARE, OUR_DRAWS, OUR_SPLIT, OURS

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
REFERENCE = Recipe(
    system="mmformer",
    about="Training on BraTS 2023 as in IM-Fuse's repository. Cost: 292,000 steps of three patches of 128^3, about "
    "0.24 T multiply-adds per patch and pass. Without validation: the last weights are the result. Dice by "
    "subset: sheet, Published results (others' training on BraTS 2024).",
    source="sheet mmformer, Training, the column of IM-Fuse's repository",
    sources={
        "network": "sheet mmformer, the constants at its beginning",
        "objective": "sheet mmformer, Loss",
        "preprocessing": "sheet mmformer, Preprocessing",
        "validation_share": LISTED_SHARE,
        "window_overlap": "sheet mmformer, Inference",
        "window_blending": "sheet mmformer, Inference",
    },
    deviations=(OUR_SPLIT, OUR_DRAWS),
    network=dict(PUBLISHED),
    preprocessing=IM_FUSE_BOX,
    validation_share=0.125,
    window_blending="constant",
    seed=999,
    stages=[
        Stage(
            epochs=1000,
            steps_per_epoch=292,
            batch_size=3,
            last_batch=2,
            crop=PUBLISHED["crop"],
            augmentation="rotate_flip_intensity",
            optimiser=Optimiser(learning_rate=2e-4, weight_decay=1e-4, amsgrad=True),
            schedule="poly_rounded",
            validation_epochs=None,
        )
    ],
)

RECIPES = {
    "corrected": corrected(
        REFERENCE,
        (*WHOLE_BOX,),
    ),
    "reference": REFERENCE,
    "nano": Recipe(
        system="mmformer",
        about=f"{FOR_A_LAPTOP} All crops have the same size: first around each tissue of a tumour, then also in "
        "healthy tissue.",
        source=OURS,
        network=dict(NANO),
        validation_share=0.05,
        stages=one_crop(NANO["crop"], learning_rate=8e-3),
    ),
}
