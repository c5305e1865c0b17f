"""Recipes of mmFormer, trained by the objective that it shares with IM-Fuse. Source: sheet mmformer, Training."""

from __future__ import annotations

from anymri.systems.mmformer import CARD
from anymri.systems.recipes.nano import FOR_A_LAPTOP, one_crop
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import LISTED_SHARE, OURS, OWN_BOX, OWN_SPLIT

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
RECIPES = {
    "published": Recipe(
        system="mmformer",
        about="As IM-Fuse's repository trains it on BraTS 2023. Cost: 292,000 steps of three patches of 128^3, about "
        "0.24 T multiply-adds a patch and pass. Nothing is validated, and the last weights count. Dice by subset: "
        "sheet, Published results (others' training on BraTS 2024).",
        source="sheet mmformer, Training, the column of IM-Fuse's repository",
        sources={
            "network": "sheet mmformer, the constants at its beginning",
            "objective": "sheet mmformer, Loss",
            "preprocessing": "sheet mmformer, Preprocessing",
            "validation_share": LISTED_SHARE,
            "window_overlap": "sheet mmformer, Inference",
            "window_blending": "sheet mmformer, Inference",
        },
        deviations=(
            OWN_SPLIT,
            OWN_BOX,
            "All 292 steps of an epoch have three patches; the authors' last one has two, for 875 cases.",
        ),
        network=dict(PUBLISHED),
        validation_share=0.125,
        window_blending="constant",
        seed=999,
        stages=[
            Stage(
                epochs=1000,
                steps_per_epoch=292,
                batch_size=3,
                crop=PUBLISHED["crop"],
                augmentation="rotate_flip_intensity",
                optimiser=Optimiser(learning_rate=2e-4, weight_decay=1e-4, amsgrad=True),
                schedule="poly_rounded",
                validation_epochs=None,
            )
        ],
    ),
    "nano": Recipe(
        system="mmformer",
        about=f"{FOR_A_LAPTOP} The network takes one crop only: first around each part of a tumour, then where "
        "healthy tissue is too.",
        source=OURS,
        network=dict(NANO),
        validation_share=0.05,
        stages=one_crop(NANO["crop"], learning_rate=8e-3),
    ),
}
