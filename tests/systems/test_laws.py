"""The laws of systems, for all systems of anymri."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from anymri.modalities import ALL
from anymri.systems import registry
from anymri.testing.counting import count_gmacs
from anymri.testing.laws import *  # noqa: F403

TOKENS = {"width": 4, "token_width": 16, "mlp_width": 16, "heads": 2}
SMALLER = {
    "im_fuse": TOKENS,
    "mam": {"width": 2, "max_width": 32},
    "mmformer": TOKENS,
    "ra_hved": {"width": 4},
    "sfusion": {"grid": 2},
    "shaspec": {"width": 4},
    "unet_dropout": {"width": 8},
    "xlstm_hved": {"width": 4},
}
# u_hved's nano preset trains no image decoders. Nor do those of robust_mseg and sfusion, whose parity tests have them;
# presets of the others train the same modules at other widths.
PRESETS = {"u_hved": ["nano", "published"]}


@pytest.mark.parametrize("name", ["u_hved", "mmformer"])
def test_multiply_adds_are_counted_as_on_real_tensors(name):
    side = registry.spec(name).network.minimum_side
    system = registry.create(name, **({"crop": side} if "crop" in registry.card(name).switches else {}))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        system.encode(torch.zeros(1, 4, side, side, side), ALL.as_tensor())
    assert count_gmacs(name, side)["encode four modalities"] == pytest.approx(counter.get_total_flops() / 2e9)


def test_tensor_on_the_default_device_is_found():
    with torch.device("meta"), NamedDevices():  # noqa: F405
        assert torch.zeros(2, device="cpu").sum() == 0
        with pytest.raises(AssertionError, match="without naming its device"):
            torch.arange(3)
