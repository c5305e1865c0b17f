"""Features of any layer of a system, by name."""

import pytest
import torch

import anymri
from anymri.errors import ConfigurationError
from anymri.modalities import Subset
from anymri.systems import registry

PAIR = Subset.parse("T1c+FLAIR").as_tensor(1)


@pytest.fixture(scope="module")
def system():
    torch.manual_seed(0)
    return registry.create("u_hved", preset="nano", width=4).eval()


def test_features_are_those_of_the_modules_that_ran_and_have_gradients(system):
    images = torch.randn(1, 4, 32, 32, 32, requires_grad=True)
    found = anymri.features(system, images, PAIR, ["encoders.*.stem", "encoders.T1c.levels.1"])
    assert set(found) == {"encoders.T1c.stem", "encoders.FLAIR.stem", "encoders.T1c.levels.1"}
    [expected] = found["encoders.T1c.stem"]
    torch.testing.assert_close(expected, system.encoders["T1c"].stem(images[:, 1:2]))
    found["encoders.T1c.levels.1"][0].sum().backward()
    assert images.grad[:, 1].abs().sum() > 0 and images.grad[:, 3].abs().sum() == 0
    assert not any(module._forward_hooks for module in system.modules())


@pytest.mark.parametrize(("name", "message"), [("encoder.T1c.stem", "has no module"), ("encoders.T2.stem", "ran")])
def test_modules_that_do_not_exist_or_do_not_run_are_named(system, name, message):
    with pytest.raises(ConfigurationError, match=message):
        anymri.features(system, torch.zeros(1, 4, 32, 32, 32), PAIR, [name])
