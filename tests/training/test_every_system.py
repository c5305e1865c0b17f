"""Every system, every objective and every kind of missing modalities: losses are finite, and fall on one fixed batch.

How each regime draws subsets is tested in test_missing.py; here are those whose batches differ: modalities that exist
and are not available, modalities that do not exist, and modalities that no sample has.
"""

import json

import numpy as np
import pytest
import torch

from anymri.synthesis.phantoms import write_cohort
from anymri.systems import registry
from anymri.training.cohort.find import prepare
from anymri.training.configuration import resolve
from anymri.training.learner import Learners
from anymri.training.patches import batches
from anymri.training.process_group import start_process_group

STEPS = 2
REGIMES = {
    "simulated": ["subsets=uniform"],
    "incomplete": ["missing={T1: 0.7, T1c: 0.2, T2: 0.4}", "subsets=all"],
    "dedicated": ["subsets=T1c+FLAIR"],
}
# Networks as small as they can be.
TINY = {
    "u_hved": {"width": 4},
    "ra_hved": {"width": 4},
    "xlstm_hved": {"width": 4},
    "mmformer": {"width": 2, "token_width": 8, "mlp_width": 8, "heads": 2},
    "im_fuse": {"width": 2, "token_width": 8, "mlp_width": 8, "heads": 2},
    "shaspec": {"width": 4, "init": "anymri"},
    "robust_mseg": {"width": 4},
    "sfusion": {"width": 4, "grid": 2, "layers": 1},
    "m3ae": {"width": 4, "grid": [24, 24, 24]},
    "mam": {"max_width": 8, "mlp_width": 8},
    "unet_dropout": {"width": 8},
}
# Slow enough that a step does not overshoot, and fast enough that the loss falls far more than rounding changes it.
RATES = {"shaspec": 3e-3}
# A loss falls by this share at least: float32 sums in different orders differ a thousand times less.
MARGIN = 1e-3


def every_objective():
    """Yield (system, recipe, stage): the first stage with each objective, of the nano recipe if it has one."""
    for name in registry.names():
        recipes = registry.spec(name).recipes
        stages = [
            (recipe, stage) for recipe in ("nano", "reference") if recipe in recipes for stage in recipes[recipe].stages
        ]
        first = {stage.objective: (name, recipe, stage.name) for recipe, stage in reversed(stages)}
        yield from reversed(first.values())


# Of a dedicated network, the batch has the same modalities missing in each sample: in `make test` one system shows it.
EVERY = [
    pytest.param(*case, regime, marks=pytest.mark.acceptance if regime == "dedicated" and case[0] != "u_hved" else ())
    for case in every_objective()
    for regime in REGIMES
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a cohort, and the cache of it that all tests share."""
    folder = tmp_path_factory.mktemp("place")
    write_cohort(folder / "cohort", 6, size=32)
    return folder


@pytest.mark.parametrize(("name", "recipe", "stage_name", "regime"), EVERY)
def test_losses_are_finite_and_fall(place, name, recipe, stage_name, regime):
    spec = registry.spec(name)
    side = max(16, spec.network.minimum_side, spec.network.divisor)
    options = {"data": place / "cohort", "label_scheme": "brats2023", "device": "cpu", "cache": place / "cache"}
    network = {**spec.recipes["nano"].network, **TINY.get(name, {})}
    if "crop" in registry.card(name).switches:
        network["crop"] = side
    small = [f"crop={side}", "batch_size=2", "optimiser.name=adam", f"optimiser.learning_rate={RATES.get(name, 2e-4)}"]
    small += ["discriminator_width=4", "validation_share=0", f"network={json.dumps(network)}"]
    configuration = resolve(name, recipe, options, assignments=[*small, *REGIMES[regime]])
    [stage] = [stage for stage in configuration.recipe.stages if stage.name == stage_name]
    [batch] = batches(prepare(configuration, lambda *_: None).training, stage, 0, 0, 1, 0)
    torch.manual_seed(0)
    system = registry.build(name, configuration.recipe.network)
    learners = Learners(start_process_group("cpu", "32-true"), spec, system, stage, 0, {})
    learners.networks.train()
    del learners.optimisers[1:]  # against a discriminator that learns, a loss may rise
    # The same number each time: the same noise.
    totals = [learners.step([batch], 1)["total"] for _ in range(STEPS)]
    assert np.isfinite(totals).all() and totals[-1] < totals[0] * (1 - MARGIN), totals
