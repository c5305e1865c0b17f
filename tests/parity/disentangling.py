"""Rules that the fixtures of Robust-Mseg and SFusion share: inputs, cases, outputs, losses and gradients."""

from copy import deepcopy
from functools import cached_property

import numpy as np
import pytest
import torch

from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.registry import spec
from parity import reference
from parity.recording import record


class DisentanglingFixture:
    """Fixture of one system, with inputs and cases in our order of modalities.

    switches  arguments of the network beside those that its converter reads; without dropout, as in the reference's run
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

    @cached_property
    def converted(self):
        return spec(self.name).convert(reference.reference_state(self.json))

    @cached_property
    def network(self):
        """Network with the fixture's weights from the converter, in evaluation mode and in training's memory format."""
        network = spec(self.name).network(**self.converted.network | self.switches)
        network.load_state_dict(self.converted.state)
        return network.eval().to(memory_format=torch.channels_last_3d)

    def ours(self, order, values):
        """Return values (B, M, ...) in our order of modalities, from the reference's `order`."""
        names = [parse_modality(name) for name in order]
        return values[:, [names.index(m) for m in MODALITIES]]

    @cached_property
    def images(self):
        stacked = reference.noise(self.json["seed"], "image", [self.size[0], len(MODALITIES), *self.size[1:]])
        return self.ours(self.json["input"]["image_channel_order"], stacked)

    @cached_property
    def labels(self):
        classes = self.config["num_cls"]
        z = reference.noise(self.json["seed"], "labels", self.size).double()
        return (classes / (1 + torch.exp(-z))).floor().clamp(max=classes - 1).long()

    def available(self, name):
        return self.ours(self.json["mask_column_order"], torch.tensor(self.cases[name]["mask"]))

    def check_converter(self):
        assert sum(p.numel() for p in self.network.parameters()) == self.json["parameter_count"]

    def check_labels(self):
        classes = self.config["num_cls"]
        assert self.labels.flatten().bincount(minlength=classes).tolist() == self.json["label_histogram"]

    def check_evaluation(self, name):
        """Missing modalities are NaN, where the reference masks their features."""
        network, available = self.network, self.available(name)
        images = self.images.masked_fill(~available[..., None, None, None], torch.nan)
        with torch.inference_mode():
            prediction = network(images, available)
        self.check(name, {"seg_pred": prediction.probabilities()}, "eval_outputs_abs")

    def step(self, name):
        """Run a training step by the objective of the recipes; return the network, its outputs and the losses."""
        system = deepcopy(self.network).train()
        seen = record(system, "decode", "reconstruct")
        contents = {}
        for modality, encoder in system.content_encoders.items():
            encoder.register_forward_hook(lambda _, images, scales, key=modality: contents.update({key: scales}))
        available = self.available(name)
        batch = Batch.of(self.images, self.labels, torch.ones_like(available), available)
        named = spec(self.name).objectives["train"](system, batch).named()
        return system, {**seen, "contents": contents}, named

    def check(self, name, outputs, tolerance):
        """Compare all outputs that the fixture stores of a case; it must not store others."""
        expected = self.cases[name]["outputs"]
        assert outputs.keys() == expected.keys()
        for key, each in expected.items():
            reference.check_output(outputs[key], each, self.stored[f"{name}/{key}"], self.tolerance[tolerance])

    def training_outputs(self, name, system, seen):
        """Return the outputs of a training step, but the logits, by the fixture's names."""
        prediction, reconstructed = seen["decode"], seen["reconstruct"]
        outputs = {"seg_pred": prediction.probabilities()}
        batch_size = len(prediction.logits)
        for number, modality in enumerate(MODALITIES):
            key = modality.lower()
            scales = seen["contents"].get(modality)
            if not self.available(name)[:, number].all():
                # The step encodes the content of available modalities only.
                with torch.no_grad():
                    scales = system.content_encoders[modality](self.images[:, number : number + 1])
            outputs |= {f"content_{key}_s{scale}": content for scale, content in enumerate(scales, start=1)}
            outputs[f"reconstruct_{key}"] = reconstructed.images[:, number : number + 1]
            numbers = {"style": reconstructed.styles, "mu": reconstructed.scales, "sigma": reconstructed.shifts}
            outputs |= {
                f"{kind}_{key}": each[:, number].view(batch_size, -1, 1, 1, 1) for kind, each in numbers.items()
            }
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
