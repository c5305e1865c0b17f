"""Recipes of RA-HVED, trained with the objectives of the HVED family. Source: sheet ra_hved, sections 5 and 6."""

from __future__ import annotations

from anymri.data.preprocessing import Preprocessing
from anymri.systems.families.hved.recipe import NANO_STAGES
from anymri.systems.protocol import ReferenceProtocol, smoothed_dice
from anymri.systems.recipes.corrections import ALL_SUBSETS_IN_TURN, DICE_OF_LABEL_MAPS, Correction, corrected
from anymri.systems.recipes.nano import FOR_A_LAPTOP
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import OUR_DRAWS, OURS
from anymri.systems.recipes.validation import ValidationRules

REFERENCE = Recipe(
    system="ra_hved",
    about="As the authors train it on BraTS 2018. Cost: 71,640 steps of 112^3, about 3.3 T multiply-adds each, 1.4 "
    "of them in the discriminator. Dice per subset: not available for this recipe. Validated after the epochs in "
    "which the authors save weights; they do not state how to choose among these.",
    source="sheet ra_hved, sections 5 and 6",
    sources={
        "network": "sheet ra_hved, section 2, the train script",
        "window_overlap": "sheet ra_hved, section 7",
        "window_blending": "sheet ra_hved, section 7",
        "validation_epochs": "sheet ra_hved, section 9: when weights are saved",
    },
    deviations=(
        "Validation cases are drawn by patient; the authors' by scikit-learn, from scans whose order is not known. "
        "Results differ as between two random splits.",
        OUR_DRAWS,
    ),
    network={"width": 16},
    preprocessing=Preprocessing(brain_from="T1c", minimum_box=112),
    validation_share=0.125,
    window_overlap=0.75,
    window_blending="constant",
    validation=ValidationRules(dice="regions", subsets="bernoulli"),
    seed=1,
    stages=[
        Stage(
            objective="adversarial_two_encodings",
            epochs=360,
            steps_per_epoch=199,
            crop=(112, 112, 112),
            subsets="by_size_reference",
            augmentation="shift_flip",
            optimiser=Optimiser(learning_rate=1e-4, weight_decay=1e-5),
            schedule="poly",
            validation_epochs=(*range(160, 361, 20),),
        )
    ],
)

PROTOCOL = ReferenceProtocol(
    compared="box",
    metrics=("dice_regions",),
    source="sheet ra_hved, section 7",
    differences=(smoothed_dice("1e-6"),),
)

RECIPES = {
    "corrected": corrected(
        REFERENCE,
        (
            Correction(
                "subsets", "by_size", "All 14 incomplete subsets are drawn: the authors' code never draws T1+T2+FLAIR."
            ),
            Correction(
                "objective",
                "adversarial",
                "Both passes of a step share one encoding and its dropout mask: an eighth less to compute.",
            ),
            Correction(
                "preprocessing.brain_from", None, "All scans make the brain: T1c may be missing, or show less of it."
            ),
            DICE_OF_LABEL_MAPS,
            ALL_SUBSETS_IN_TURN,
            Correction(
                "preprocessing.minimum_box",
                None,
                "A small box needs no voxels from around it: windows and patches are padded.",
            ),
        ),
    ),
    "reference": REFERENCE,
    "nano": Recipe(
        system="ra_hved",
        about=f"{FOR_A_LAPTOP} As published: adversarial, incomplete subsets by size. Not as published: the images "
        "are learnt first, one decoder reconstructs them all, and the discriminator is narrow.",
        source=OURS,
        network={"width": 8, "shared_reconstruction": True},
        validation_share=0.05,
        stages=NANO_STAGES,
    ),
}
