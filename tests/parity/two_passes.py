"""What the fixtures of RA-HVED and XLSTM-HVED share: a complete and an incomplete pass, and a discriminator of both."""

from itertools import product

import pytest
import torch

from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.families.hved.discriminator import PatchDiscriminator
from anymri.systems.families.hved.objective import discriminator_input, region_of_interest
from anymri.systems.registry import spec
from parity import reference

# Our names of the fixture's losses.
LOSSES = {
    "dice_full": "dice_complete",
    "dice_missing": "dice_incomplete",
    "recon_mse": "reconstruction",
    "kld": "kld",
    "gan_generator": "adversarial",
    "generator_total": "total",
    "disc_fake": "discriminator_fake",
    "disc_real": "discriminator_real",
    "disc_total": "discriminator",
}


class TwoPasses:
    """A fixture by the name of its system; what it is made of, in our order of modalities.

    order  names of the reference's channels, by default as the fixture has them
    """

    def __init__(self, name, order=None):
        self.name = name
        self.json = reference.load(name)
        self.stored = reference.arrays(name)
        self.order = [parse_modality(m) for m in order or self.json["modality_order"]]
        self.channels = [self.order.index(m) for m in MODALITIES]
        self.outputs = {output["name"]: output for output in self.json["outputs"]}
        self.variants = {variant["name"]: variant for variant in self.json["variants"]}
        self.complete = self.subset(len(self.json["subsets"]) - 1)
        self.incomplete = self.subset(self.json["train_subset"])

    def build(self, model, dtype=torch.float32, system=None, **switches):
        """A network with the fixture's weights, by the converter of `system`, in evaluation mode."""
        found = spec(system or self.name)
        converted = found.convert(reference.filled_state(self.json["seed"], model))
        network = found.network(**converted.network, **switches)
        network.load_state_dict(converted.state)
        return network.eval().to(dtype)

    def discriminator(self, system, dtype=torch.float32):
        """The fixture's discriminator; behind the regions, its channels are brought into our order of modalities."""
        values = reference.filled_state(self.json["seed"], self.json["disc"], prefix="disc.")
        order = [*range(system.out_channels), *(system.out_channels + channel for channel in self.channels)]
        values["disc.0.0.weight"] = values["disc.0.0.weight"][:, order]
        network = PatchDiscriminator(len(order))
        network.load_state_dict(dict(zip(network.state_dict(), values.values(), strict=True)))
        return network.to(dtype)

    def images(self, dtype=torch.float32):
        shape = [self.json["batch"], len(self.order), *self.json["crop"]]
        return reference.noise(self.json["seed"], "x", shape)[:, self.channels].to(dtype)

    def labels(self, values, classes):
        """Classes by the fixture's rule for a data set of `values` labels; `classes` of each value."""
        t = reference.noise(self.json["seed"], "label", [self.json["batch"], *self.json["crop"]]).double()
        return torch.tensor(classes)[(values / (1 + torch.exp(-t))).floor().long()]

    def flags(self, *present):
        """(B, 4) bool from one list of the reference's channels a sample, or one for all."""
        rows = [[channel in each for channel in self.channels] for each in present]
        return torch.tensor(rows if len(rows) == self.json["batch"] else rows * self.json["batch"])

    def subset(self, number):
        return self.flags(self.json["subsets"][number])

    def replay_noise(self, system, *passes):
        """Puts the fixture's draws where training would draw; they come pass by pass, finest scale first."""
        draws = product(passes, range(4))

        def draw(like):
            which, level = next(draws)
            return reference.noise(self.json["seed"], f"eps/{which}/{level}", like.shape).to(like.dtype)

        system.draw_noise = draw

    def theirs(self, maps):
        """Modalities of axis 1 in the reference's order."""
        return maps[:, [MODALITIES.index(m) for m in self.order]]

    def check(self, name, actual, **options):
        output = self.outputs[name]
        reference.check_strided(self.json, actual, output, self.stored[output["array"]], **options)

    def check_prediction(self, name, prediction):
        self.check(f"{name}/seg", prediction.probabilities())
        if f"{name}/recon" in self.outputs:
            self.check(f"{name}/recon", self.theirs(prediction.reconstruction))

    def holey(self, available):
        """The images with absent channels at NaN, where the reference had zeros."""
        return self.images().masked_fill(~available[..., None, None, None], torch.nan)

    @torch.inference_mode()
    def evaluate(self, system, available):
        return system.decode(system.encode(self.holey(available), available), available, reconstruct=True)

    def training(self, **switches):
        """The network in training mode, and its answers of the two passes of a step."""
        system = self.build(self.json["model"], **switches).train()
        self.replay_noise(system, "full", "missing")
        with torch.no_grad():
            encoding = system.encode(self.images(), self.complete)
            passes = [system.decode(encoding, each, reconstruct=True) for each in (self.complete, self.incomplete)]
        return system, *passes

    def training_with_the_mean(self, **switches):
        system = self.build(self.json["model"], **switches).train()
        system.draw_noise = torch.zeros_like
        with torch.no_grad():
            return system.decode(system.encode(self.images(), self.complete), self.complete, reconstruct=True)

    def step(self, dtype, labels, **switches):
        """Network and named losses of one training step, with the discriminator."""
        system = self.build(self.json["model"], dtype, **switches).train()
        self.replay_noise(system, "full", "missing")
        batch = Batch.of(self.images(dtype), labels, self.complete, self.incomplete)
        objective = spec(self.name).objectives["adversarial"]
        return system, objective(system, batch, self.discriminator(system, dtype))

    def check_discriminator(self, system, complete, incomplete):
        self.check("nested_full", region_of_interest(complete.probabilities())[:, 0], may_flip=True)
        seen = discriminator_input(incomplete)
        self.check("atten_missing", self.theirs(seen[:, system.out_channels :]), may_flip=True)
        with torch.no_grad():
            self.check("disc_fake", self.discriminator(system)(seen))

    def check_losses(self, named, key, tolerance):
        assert LOSSES.keys() == self.json[key].keys() and set(LOSSES.values()) == set(named)
        for name, expected in self.json[key].items():
            assert named[LOSSES[name]].item() == pytest.approx(expected, rel=tolerance), name
