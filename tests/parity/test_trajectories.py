"""Training steps of all systems against those of the authors' code. See `trajectory.py` for the fixtures."""

from functools import partial
from itertools import product
from unittest.mock import patch

import pytest
import torch

from anymri.modalities import MODALITIES
from anymri.systems.batch import Batch
from parity.trajectory import Trajectory
from parity.two_passes import LOSSES


class Tokens(Trajectory):
    """mmFormer and IM-Fuse."""

    def __init__(self, system):
        super().__init__(system, dropout=0.0)
        self.switches["heads"] = self.json["config"]["num_heads"]
        if "variant" in self.json:
            self.switches["interleaved"] = self.json["variant"]["interleaved"]

    def losses(self, named):
        ours = {"fuse": "fused"}
        ours |= {f"sep{i}": f"alone_{modality}" for i, modality in enumerate(self.order)}
        ours |= {f"prm{i}": f"level{i + 1}" for i in range(4)}
        found = {f"{a}_{kind}": named[f"{b}_{kind}"] for a, b in ours.items() for kind in ("ce", "dice")}
        return {**found, "total": named["total"]}


class UHVED(Trajectory):
    def prepare(self, system, step):
        scales = iter(range(1, 5))
        system.draw_noise = lambda like: self.noise(f"noise/{step}/{next(scales)}", *like.shape)


class RobustMseg(Trajectory):
    def losses(self, named):
        """The fixture has the reconstruction of all modalities only, and gives T1c another name than ours."""
        return {name: value for name, value in named.items() if not name.startswith("rec_")}


class TwoPasses(Trajectory):
    """RA-HVED and XLSTM-HVED, with their discriminator."""

    def __init__(self, system, **rules):
        super().__init__(system, **rules)
        self.stage.discriminator_width = dict(self.json["parameters"])["disc.disc.0.0.weight"][0]

    def available(self, step):
        subset = self.json["subsets"][self.json["train_subsets"][step - 1]]
        row = [self.order.index(m) in subset for m in MODALITIES]
        return torch.tensor([row] * self.json["batch"])

    def prepare(self, system, step):
        draws = product(("full", "missing"), range(4))

        def draw(like):
            which, level = next(draws)
            return self.noise(f"eps/{step}/{which}/{level}", *like.shape)

        system.draw_noise = draw

    def losses(self, named):
        return {theirs: named[ours] for theirs, ours in LOSSES.items()}

    def convert_discriminator(self, state):
        """The channels of the images follow those of the regions."""
        order = [*range(3), *(3 + self.order.index(m) for m in MODALITIES)]
        return [value[:, order] if name == "disc.disc.0.0.weight" else value for name, value in state.items()]


class ShaSpec(Trajectory):
    def __init__(self, system):
        super().__init__(system)
        self.stage.optimiser = self.stage.optimiser.model_copy(update={"learning_rate": 1e-5})

    def turned(self, volumes):
        return volumes.movedim(-3, -1)

    def modes(self, step):
        return [self.order[int(number)] for number in self.json["modes"][step - 1].split(",")]

    def available(self, step):
        return torch.tensor([[m in self.modes(step) for m in MODALITIES]] * self.json["batch"])

    def prepare(self, system, step):
        first = MODALITIES.index(self.modes(step)[0])
        system.draw_substitute = lambda flags: torch.full((len(flags),), first)


class MaM(Trajectory):
    def __init__(self, system):
        super().__init__(system)
        self.switches["heads"] = self.json["config"]["heads"]

    def turned(self, volumes):
        return volumes.transpose(-1, -3)

    def losses(self, named):
        reconstructed = {"rebuilt": named.pop("reconstructed")} if "reconstructed" in named else {}
        segmentation = named["total"] - reconstructed.get("rebuilt", 0)
        return named | reconstructed | {"segmentation": segmentation}


class M3AE(Trajectory):
    def prepare(self, system, step):
        system.draw_intensities = lambda images, patch: (1.0, 0.0)

    def turned(self, volumes):
        return volumes.transpose(-1, -3)

    def batch(self, step):
        """Return copies of one patch, with its position in the substitute image."""
        copies = self.json["batch"]
        available = self.available(step)
        middle = torch.tensor([side // 2 for side in self.json["config"]["substitute_image_shape"][2:]])
        ends = torch.tensor(self.json["locations"][step - 1]).T - torch.tensor([[0], [1]])
        corners = (ends - middle).flip(-1).expand(copies, -1, -1)
        images, labels = (each[:1].expand(copies, *each.shape[1:]) for each in (self.images(step), self.labels(step)))
        return Batch(images, labels, torch.ones_like(available), available, corners, torch.zeros(copies).long())

    def images(self, step):
        with patch.dict(self.json, batch=1):
            return super().images(step)

    def labels(self, step):
        with patch.dict(self.json, batch=1):
            return super().labels(step)

    def losses(self, named):
        levels = {"out1": "full", "out3": "half", "out4": "quarter"}
        found = {f"seg_{theirs}": named[f"{ours}_dice"] + named[f"{ours}_ce"] for theirs, ours in levels.items()}
        return {**found, "distill": named["distillation"], "total": named["total"]}


FACTORIES = {
    "u_hved": UHVED,
    "ra_hved": partial(TwoPasses, dropout=0.0),
    # Values of BraTS-PEDs: enhancing, non-enhancing, cystic, oedema.
    "xlstm_hved": partial(TwoPasses, classes=(0, 3, 1, 1, 2), reference_leak=True),
    "robust_mseg": partial(RobustMseg, dropout=0.0),
    "mmformer": Tokens,
    "im_fuse": Tokens,
    "m3ae": partial(M3AE, stage=-1, placement="box"),
    "shaspec": ShaSpec,
    "mam": MaM,
}
# Of the others, `make acceptance` takes all steps.
QUICK = ("shaspec", "xlstm_hved")


@pytest.mark.parametrize("system", QUICK)
def test_first_training_step_matches(system):
    FACTORIES[system](system).run(steps=1)


@pytest.mark.acceptance
@pytest.mark.parametrize("system", FACTORIES)
def test_training_steps_match(system):
    FACTORIES[system](system).run()
