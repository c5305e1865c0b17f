"""Fixtures of RA-HVED and XLSTM-HVED: a complete and an incomplete pass, and a discriminator that receives both."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import product

import pytest
import torch

from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.contract import Prediction, System
from anymri.systems.families.hved.discriminator import PatchDiscriminator
from anymri.systems.families.hved.objective import discriminator_input, region_of_interest
from anymri.systems.losses import StepLoss
from anymri.systems.registry import spec
from parity import reference
from parity.slabs import convolutions_by_slabs

# Names of the losses in the fixture -> ours.
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


@dataclass
class Step:
    """One training step: the network, its two predictions and the losses."""

    system: System
    complete: Prediction
    incomplete: Prediction
    loss: StepLoss

    @property
    def in_float64(self):
        return self.loss.total.dtype == torch.float64


class TwoPasses:
    """Content of a fixture, found by the name of its system, in our order of modalities.

    order  names of the reference's channels, by default as the fixture lists them
    """

    def __init__(self, name, order=None):
        self.name = name
        self.json = reference.load(name)
        self.stored = reference.arrays(name)
        self.order = [parse_modality(m) for m in order or self.json["modality_order"]]
        self.channels = [self.order.index(m) for m in MODALITIES]
        self.outputs = {output["name"]: output for output in self.json["outputs"]}
        self.variants = {variant["name"]: variant for variant in self.json["variants"]}
        subsets = self.json["subsets"]
        # Numbers of the subsets of the two passes, as the fixture counts.
        self.complete_number = max(range(len(subsets)), key=lambda number: len(subsets[number]))
        self.incomplete_number = self.json["train_subset"]
        self.complete = self.subset(self.complete_number)
        self.incomplete = self.subset(self.incomplete_number)
        self.converted = cache(self._converted)

    def _converted(self, variant, system):
        model = self.variants[variant]["model"] if variant else self.json["model"]
        return spec(system).convert(reference.filled_state(self.json["seed"], model))

    def build(self, dtype=torch.float32, variant=None, system=None, **switches):
        """Return a network with the weights of the fixture or of a variant of it, in evaluation mode.

        system  name of the system whose converter and network are used, if not that of the fixture
        """
        system = system or self.name
        converted = self.converted(variant, system)
        with torch.device("meta"):
            network = spec(system).network(**converted.network, **switches)
        network.to_empty(device="cpu").load_state_dict(converted.state)
        return network.eval().to(dtype)

    def discriminator(self, system, dtype=torch.float32):
        """Return the discriminator of the fixture, its input channels after the regions in our order of modalities."""
        values = reference.filled_state(self.json["seed"], self.json["disc"], prefix="disc.")
        order = [*range(system.out_channels), *(system.out_channels + channel for channel in self.channels)]
        values["disc.0.0.weight"] = values["disc.0.0.weight"][:, order]
        with torch.device("meta"):
            network = PatchDiscriminator(len(order), width=len(values["disc.0.0.weight"]))
        state = dict(zip(network.state_dict(), values.values(), strict=True))
        network.to_empty(device="cpu").load_state_dict(state)
        return network.to(dtype)

    def images(self, dtype=torch.float32):
        shape = [self.json["batch"], len(self.order), *self.json["crop"]]
        return reference.noise(self.json["seed"], "x", shape)[:, self.channels].to(dtype)

    def labels(self, classes):
        """Return labels by the rule of the fixture.

        classes  our class of each value that the data set has
        """
        t = reference.noise(self.json["seed"], "label", [self.json["batch"], *self.json["crop"]]).double()
        return torch.tensor(classes)[(len(classes) / (1 + torch.exp(-t))).floor().long()]

    def flags(self, *present):
        """Return (B, 4) bool from one list of the reference's channels per sample, or one for all samples."""
        rows = [[channel in each for channel in self.channels] for each in present]
        return torch.tensor(rows if len(rows) == self.json["batch"] else rows * self.json["batch"])

    def subset(self, number):
        return self.flags(self.json["subsets"][number])

    def with_gaussians(self):
        """Return the numbers of the evaluated subsets whose Gaussians are stored."""
        return [number for number in self.json["eval_subsets"] if f"eval{number}/mu0" in self.outputs]

    def variant_subsets(self, variants):
        """Return (variant, number of a subset) for all evaluations of some variants."""
        return [(name, number) for name in variants for number in self.variants[name]["subsets"]]

    def replay_noise(self, system, *passes):
        """Make training use the draws of the fixture; they come pass by pass, finest scale first."""
        draws = product(passes, range(4))

        def draw(like):
            which, level = next(draws)
            return reference.noise(self.json["seed"], f"eps/{which}/{level}", like.shape).to(like.dtype)

        system.draw_noise = draw

    def theirs(self, maps):
        """Return maps with the modalities of axis 1 in the reference's order."""
        return maps[:, [MODALITIES.index(m) for m in self.order]]

    def check(self, name, actual, **options):
        output = self.outputs[name]
        reference.check_strided(self.json, actual, output, self.stored[output["array"]], **options)

    def check_prediction(self, name, prediction):
        self.check(f"{name}/seg", prediction.probabilities())
        if f"{name}/recon" in self.outputs:
            self.check(f"{name}/recon", self.theirs(prediction.reconstruction))

    def check_gaussians(self, number, gaussians):
        """Compare Gaussians; the reference stacks the prior before the modalities."""
        for level, each in enumerate(gaussians):
            for kind, values in (("mu", each.mean), ("logvar", each.log_variance)):
                stack = torch.cat([torch.zeros_like(values[:, :1]), self.theirs(values)], dim=1)
                self.check(f"eval{number}/{kind}{level}", stack)

    @torch.inference_mode()
    def evaluate(self, system, available):
        """Return the prediction from images with NaN in missing channels, where the reference had zeros."""
        images = self.images().masked_fill(~available[..., None, None, None], torch.nan)
        return system.decode(system.encode(images, available), available, reconstruct=True)

    def zeroed(self, number):
        """Return images with zeros in the channels outside a subset; the reference encodes these too."""
        return self.images() * self.subset(number)[..., None, None, None]

    @torch.no_grad()
    def training_with_the_mean(self, **switches):
        """Return the complete prediction in training mode without noise."""
        system = self.build(**switches).train()
        system.draw_noise = torch.zeros_like
        return system.decode(system.encode(self.images(), self.complete), self.complete, reconstruct=True)

    def step(self, dtype, classes, backward=True, exact=None, **switches):
        """Return one training step with the discriminator, by default with its gradients.

        exact  step in float64: voxels whose probability rounding moves across 0.5 stay on its side of this threshold,
               where the input of the discriminator jumps
        """
        system = self.build(dtype, **switches).train()
        self.replay_noise(system, "full", "missing")
        predictions, decode = [], system.decode

        def decode_and_keep(*arguments, **options):
            prediction = decode(*arguments, **options)
            if exact:
                likely = (exact.incomplete if predictions else exact.complete).logits > 0
                prediction.logits = torch.where(
                    likely, prediction.logits.clamp(min=1e-6), prediction.logits.clamp(max=0)
                )
            predictions.append(prediction)
            return prediction

        system.decode = decode_and_keep
        batch = Batch.of(self.images(dtype), self.labels(classes), self.complete, self.incomplete)
        objective = spec(self.name).objectives["adversarial"]
        faster = convolutions_by_slabs() if dtype == torch.float64 else nullcontext()
        with faster, torch.set_grad_enabled(backward):
            loss = objective(system, batch, self.discriminator(system, dtype))
            if backward:
                loss.total.backward()
        return Step(system, *predictions, loss)

    def check_passes(self, step):
        self.check_prediction(f"train{self.complete_number}", step.complete)
        self.check_prediction(f"train{self.incomplete_number}", step.incomplete)

    @torch.no_grad()
    def check_discriminator(self, step):
        self.check("nested_full", region_of_interest(step.complete.probabilities())[:, 0], may_flip=True)
        received = discriminator_input(step.incomplete)
        self.check("atten_missing", self.theirs(received[:, step.system.out_channels :]), may_flip=True)
        self.check("disc_fake", self.discriminator(step.system)(received))

    def check_losses(self, step, tolerance):
        named, expected = step.loss.named(), self.json["losses_float64" if step.in_float64 else "losses"]
        assert LOSSES.keys() == expected.keys() and set(LOSSES.values()) == set(named)
        for name, value in expected.items():
            assert named[LOSSES[name]].item() == pytest.approx(value, rel=tolerance), name

    def gradient_norm(self, step, our_name, group):
        """Return the norm of the gradients of all parameters in one group of the reference.

        our_name  function of a name of the reference to ours
        group     first part of the names of the reference
        """
        gradients = {name: parameter.grad for name, parameter in step.system.named_parameters()}
        members = [our_name(name) for name, _ in self.json["model"]["parameters"] if name.split(".")[0] == group]
        squares = [gradients[name].square().sum() for name in members if name in gradients]
        return torch.stack(squares).sum().sqrt().item()
