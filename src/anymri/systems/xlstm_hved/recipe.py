"""Recipes of XLSTM-HVED, trained by the family's objectives. Source: sheet xlstm_hved, section 7."""

from __future__ import annotations

from anymri.data.preprocessing import Preprocessing
from anymri.systems.hved import NANO_STAGES
from anymri.systems.recipes import Optimiser, Recipe, Stage

RECIPES = {
    "published": Recipe(
        system="xlstm_hved",
        about="As the authors' main script trains it on BraTS 2024, without the paper's pre-training (stage option "
        "objective: pretraining) and with its batch of 1 (paper: 2). Cost: 3000 epochs of the training cases, taken as "
        "80 % of 1350; the paper says 72 h on a V100. Dice by subset as published: sheet, section 10. Deviations: "
        "cubes of 128 instead of 128x192x128; the shift of intensities is a share of the patch's deviation instead of "
        "the volume's; all 14 incomplete subsets are drawn (stage option subsets: by_size_reference for the authors' "
        "13); absent modalities are hidden from SAVE (switch reference_leak); float32 (precision: 16-mixed for the "
        "authors' float16); regions by the data set's scheme instead of BraTS-PEDs values for any; validation every 20 "
        "epochs of whole volumes in overlapping windows, Dice of label maps on the 15 subsets dealt out, instead of "
        "every epoch on one random crop of each case, complete and with random scans.",
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
        about="For a laptop without a GPU: on 24 phantoms of 96^3 eight minutes on two cores, WT Dice 0.80 with all "
        "four modalities. All the paper's stages: the images are learnt first, then all of it, against a "
        "discriminator, here a narrow one.",
        network={"width": 4},
        validation_share=0.05,
        stages=NANO_STAGES,
    ),
}
