"""Every system, every stage and every regime of missingness: losses are finite, and fall on a batch that stays.

Of each regime the one that differs most from the others; how each draws is tested in `test_missingness`.
"""

import numpy as np
import pytest
import torch

from anymri.synthesis.phantoms import write_cohort
from anymri.systems import registry
from anymri.training.cohort.find import prepare
from anymri.training.configuration import resolve
from anymri.training.learner import Learners
from anymri.training.patches import batches
from anymri.training.process_group import team

STEPS = 3
REGIMES = {
    "simulated": ["subsets=uniform"],
    "fixed": ["subsets=fixed"],
    "incomplete": ["missing={T1: 0.7, T1c: 0.2, T2: 0.4}", "subsets=all"],
    "dedicated": ["subsets=T1c+FLAIR"],
}
# What a network needs beside its smallest crop.
SMALLER = {"sfusion": ["network.grid=2"]}
# Published stages minimise losses of parts that the nano network lacks; the first weights that the authors chose need
# all modalities at the beginning.
WHOLE = {"u_hved": ["network.reconstruction=true"], "shaspec": ["network.init=anymri"]}
# Slow enough that three steps do not overshoot, and fast enough that they tell.
RATES = {"shaspec": 1e-3}


def every_stage():
    """(system, recipe, stage): all of the nano recipe, and what else the published one minimises."""
    for name in registry.names():
        recipes = registry.spec(name).recipes
        nano = recipes["nano"].stages
        yield from ((name, "nano", stage.name) for stage in nano)
        known = {stage.objective for stage in nano}
        yield from ((name, "published", s.name) for s in recipes["published"].stages if s.objective not in known)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_cohort(folder / "cohort", 6, size=48)
    return folder


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("name", "recipe", "stage_name"), every_stage())
def test_losses_are_finite_and_fall(place, name, recipe, stage_name, regime):
    parts = registry.spec(name)
    side = max(16, parts.network.minimum_side, parts.network.divisor)
    options = {"data": place / "cohort", "label_scheme": "brats2023", "device": "cpu", "cache": place / "cache"}
    small = [f"crop={side}", "batch_size=2", f"optimiser.learning_rate={RATES.get(name, 2e-4)}", *SMALLER.get(name, [])]
    if recipe == "published":
        small += [f"network.{key}={value}" for key, value in parts.recipes["nano"].network.items()]
        small += WHOLE.get(name, [])
    if "crop" in registry.card(name).switches:
        small.append(f"network.crop={side}")
    configuration = resolve(name, recipe, options, assignments=[*small, *REGIMES[regime]])
    [stage] = [stage for stage in configuration.recipe.stages if stage.name == stage_name]
    [batch] = batches(prepare(configuration, lambda *_: None).training, stage, 0, 0, 1, 0)
    torch.manual_seed(0)
    network = registry.build(name, configuration.recipe.network)
    learners = Learners(team("cpu", "32-true"), name, network, stage, 0, {})
    learners.networks.train()
    del learners.optimisers[1:]  # against a discriminator that learns, a loss may rise
    # The same number each time: the same noise.
    totals = [learners.step([batch], 1)["total"] for _ in range(STEPS)]
    assert np.isfinite(totals).all() and totals[-1] < totals[0], totals
