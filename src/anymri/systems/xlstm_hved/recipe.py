"""Recipes of XLSTM-HVED, trained by the family's objectives. Source: sheet xlstm_hved, section 7."""

from __future__ import annotations

from anymri.data.preprocessing import Preprocessing
from anymri.systems.families.hved.objective import NANO_STAGES
from anymri.systems.recipes.nano import FOR_A_LAPTOP
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import OURS

RECIPES = {
    "published": Recipe(
        system="xlstm_hved",
        about="As the authors' main script trains it on BraTS 2024, without the paper's pre-training (stage option "
        "objective: pretraining) and with its batch of 1 (paper: 2). Cost: 3000 epochs of the training cases, taken as "
        "80 % of 1350; the paper says 72 h on a V100. Dice by subset as published: sheet, section 10.",
        source="sheet xlstm_hved, section 7",
        sources={
            "network": "sheet xlstm_hved, section 2",
            "validation_share": "protocol sheet, section 5",
            "window_overlap": "ours: the authors have one window a case",
            "window_blending": "sheet xlstm_hved, section 9",
            "steps_per_epoch": "protocol sheet, sections 1 and 5: 80 % of 1350 cases",
            "validation_epochs": "ours",
        },
        deviations=(
            "Patches are cubes of 128 voxels; the authors' have 128x192x128.",
            "A patch may touch the far end of an axis; the authors' ends one voxel before it.",
            "The shift of intensities is a share of the patch's deviation; the authors' of the volume's.",
            "All 14 incomplete subsets are drawn; the authors' code draws 13 (subsets: by_size_reference).",
            "Absent modalities are hidden from SAVE (network.reference_leak: true shows them, as the authors' code).",
            "float32; the authors' float16 (precision: 16-mixed).",
            "Regions follow the data set's label scheme; the authors' the values of BraTS-PEDs on any data.",
            "Validation is every 20 epochs, of whole volumes in overlapping windows; the authors' every epoch, of one "
            "random crop a case.",
            "Each case held out has its share of the 15 subsets; the authors' all scans and a random subset.",
            "The cases held out are drawn by patient; the authors divided folders by hand.",
            "Dice is of label maps, where inner regions lie within outer ones.",
        ),
        network={"width": 4, "init": "reference"},
        preprocessing=Preprocessing(normalisation="divide_255", crop_to_brain=False),
        validation_share=0.2,
        window_blending="constant",
        seed=1,
        stages=[
            Stage(
                objective="adversarial",
                epochs=3000,
                steps_per_epoch=1080,
                crop=128,
                subsets="by_size",
                augmentation="shift_flip_in_plane",
                optimiser=Optimiser(learning_rate=1e-4, weight_decay=1e-5),
                schedule="poly",
                validation_epochs=20,
            )
        ],
    ),
    "nano": Recipe(
        system="xlstm_hved",
        about=f"{FOR_A_LAPTOP} All the paper's stages: the images are learnt first, then all of it, against a "
        "discriminator, here a narrow one.",
        source=OURS,
        network={"width": 4},
        validation_share=0.05,
        stages=NANO_STAGES,
    ),
}
