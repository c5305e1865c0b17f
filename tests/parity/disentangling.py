"""What the fixtures of Robust-Mseg and SFusion share: rules for inputs, cases, outputs, losses and gradients."""

from functools import cached_property

import numpy as np
import pytest
import torch

from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.registry import spec
from parity import reference


class DisentanglingFixture:
    """A fixture by the name of its system; what it is made of, in our order of modalities.

    switches  arguments of the network beside those that its converter reads; without dropout, as the reference ran
    """

    def __init__(self, name, **switches):
        self.name = name
        self.json = reference.load(name)
        self.stored = reference.arrays(name)
        self.switches = switches
        self.config, self.tolerance = self.json["config"], self.json["tolerance"]
        self.cases = {case["name"]: case for case in self.json["cases"]}
        self.size = [self.config["batch"], *[self.config["crop"]] * 3]

    def of_mode(self, mode):
        return [name for name, case in self.cases.items() if case["mode"] == mode]

    def build(self):
        """A network with the fixture's weights, by the converter, in evaluation mode; laid out as training has it."""
        network = spec(self.name).network(**self.converted.network | self.switches)
        network.load_state_dict(self.converted.state)
        return network.eval().to(memory_format=torch.channels_last_3d)

    @cached_property
    def converted(self):
        return spec(self.name).convert(reference.reference_state(self.json))

    def ours(self, order, values):
        """Columns in the reference's order, brought into ours."""
        names = [parse_modality(name) for name in order]
        return values[:, [names.index(m) for m in MODALITIES]]

    def images(self):
        stacked = reference.noise(self.json["seed"], "image", [self.size[0], len(MODALITIES), *self.size[1:]])
        return self.ours(self.json["input"]["image_channel_order"], stacked)

    def labels(self):
        classes = self.config["num_cls"]
        z = reference.noise(self.json["seed"], "labels", self.size).double()
        return (classes / (1 + torch.exp(-z))).floor().clamp(max=classes - 1).long()

    def available(self, name):
        return self.ours(self.json["mask_column_order"], torch.tensor(self.cases[name]["mask"]))

    def holey(self, available):
        """The images with absent channels at NaN, where the reference masks features."""
        return self.images().masked_fill(~available[..., None, None, None], torch.nan)

    def step(self, name):
        """Everything of one training step by the recipe's objective: network, prediction, images reconstructed, losses."""
        system = self.build().train()
        seen = {}
        for method in ("decode", "reconstruct"):
            setattr(system, method, recorded(getattr(system, method), seen, method))
        available = self.available(name)
        batch = Batch.of(self.images(), self.labels(), torch.ones_like(available), available)
        named = spec(self.name).objectives["train"](system, batch).named()
        return system, seen["decode"], seen["reconstruct"], named

    def check(self, name, outputs, tolerance):
        """All outputs that the fixture stores of a case, and none besides."""
        expected = self.cases[name]["outputs"]
        assert outputs.keys() == expected.keys()
        for key, each in expected.items():
            reference.check_output(outputs[key], each, self.stored[f"{name}/{key}"], self.tolerance[tolerance])

    def training_outputs(self, system, prediction, reconstructed):
        """Outputs of a training step by the fixture's names, but for logits."""
        outputs = {"seg_pred": prediction.probabilities()}
        batch_size = len(prediction.logits)
        for number, modality in enumerate(MODALITIES):
            name = modality.lower()
            with torch.no_grad():
                contents = system.content_encoders[modality](self.images()[:, number : number + 1])
            outputs |= {f"content_{name}_s{scale}": content for scale, content in enumerate(contents, start=1)}
            outputs[f"reconstruct_{name}"] = reconstructed.images[:, number : number + 1]
            numbers = {"style": reconstructed.styles, "mu": reconstructed.scales, "sigma": reconstructed.shifts}
            outputs |= {f"{key}_{name}": each[:, number].view(batch_size, -1, 1, 1, 1) for key, each in numbers.items()}
        return outputs

    def check_losses(self, name, named):
        expected = self.cases[name]["losses"]
        assert named.keys() == expected.keys()
        for key, value in expected.items():
            assert named[key].item() == pytest.approx(value, rel=self.tolerance["losses_rel"]), key

    def check_gradients(self, name, system, our_name):
        ours = dict(system.named_parameters())
        gradients = [ours[our_name(each)].grad for each, _ in self.json["parameters"]]
        norms = np.array([-1 if g is None else g.norm().item() for g in gradients])
        expected = self.stored[f"{name}/grad_norm"].astype(float)
        # The JSON measures differences against max(|norm|, 0.01 * largest norm).
        error = np.abs(norms - expected) / np.maximum(np.abs(expected), 0.01 * expected.max())
        assert error.max() < self.tolerance["grad_norm_rel"]


def recorded(method, seen, name):
    """A method that leaves what it returns in `seen`."""

    def call(*arguments, **options):
        seen[name] = method(*arguments, **options)
        return seen[name]

    return call
