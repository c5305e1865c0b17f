"""Recipes of IM-Fuse; the objective is shared with mmFormer. Source: sheet im_fuse, Training."""

from __future__ import annotations

from anymri.systems.im_fuse import CARD
from anymri.systems.recipes.corrections import IM_FUSE_BOX, WHOLE_BOX, Correction, corrected
from anymri.systems.recipes.nano import FOR_A_LAPTOP, one_crop
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import LISTED_SHARE, OUR_DRAWS, OUR_SPLIT, OURS

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
REFERENCE = Recipe(
    system="im_fuse",
    about="Training on BraTS 2023 by the authors' command. Cost: 875,000 steps of 128^3. Dice per subset: not in our "
    "sources; about 83.3 on average (sheet, Published results).",
    source="sheet im_fuse, Training, the column of the published command",
    sources={
        "network": "sheet im_fuse, Variants: the paper's main model",
        "objective": "sheet mmformer, Loss",
        "preprocessing": "sheet mmformer, Preprocessing",
        "validation_share": LISTED_SHARE,
        "window_overlap": "sheet mmformer, Inference",
        "window_blending": "sheet mmformer, Inference",
        "crop": "sheet im_fuse, the constants at its beginning",
        "subsets": "sheet mmformer, Training",
        "augmentation": "sheet mmformer, Training",
    },
    deviations=(OUR_SPLIT, OUR_DRAWS),
    network={**PUBLISHED, "first_skip": False},
    preprocessing=IM_FUSE_BOX,
    validation_share=0.125,
    window_blending="constant",
    seed=999,
    stages=[
        Stage(
            epochs=1000,
            steps_per_epoch=875,
            crop=PUBLISHED["crop"],
            augmentation="rotate_flip_intensity",
            optimiser=Optimiser(name="radam", learning_rate=2e-4, weight_decay=3e-5),
            schedule="poly_rounded",
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
)

RECIPES = {
    "corrected": corrected(
        REFERENCE,
        (
            *WHOLE_BOX,
            Correction(
                "network.first_skip",
                True,
                "The network of the paper has a skip at full resolution; the published command omits it.",
            ),
        ),
    ),
    "reference": REFERENCE,
    "nano": Recipe(
        system="im_fuse",
        about=f"{FOR_A_LAPTOP} All crops have the same size: first around each tissue of a tumour, with all "
        "modalities, because the Mamba blocks do not learn the tissues in time otherwise; then also in healthy tissue.",
        source=OURS,
        network=dict(NANO),
        validation_share=0.05,
        stages=one_crop(NANO["crop"], learning_rate=1.6e-2, subsets="all"),
    ),
}
