"""What the fixtures of mmFormer and IM-Fuse share: rules for inputs, arrays, tolerances, losses and gradients."""

import numpy as np
import torch

from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.families.tokens.checkpoints import our_name
from anymri.systems.registry import spec
from parity import filler, reference


class TokenFixture:
    """A fixture by the name of its system; what it is made of, in our order of modalities."""

    def __init__(self, name):
        self.name = name
        self.json = reference.load(name)
        self.stored = reference.arrays(name)
        self.config, self.tolerance = self.json["config"], self.json["tolerance"]
        self.order = [parse_modality(m) for m in self.json["modality_order"]]
        self.channels = [self.order.index(m) for m in MODALITIES]
        self.cases = {case["name"]: case for case in self.json["cases"]}

    def state(self, model):
        """The reference's state dict of a model that lists its `parameters`."""
        values = filler.fill(self.json["seed"], dict(map(tuple, model["parameters"])), model["integer_buffers"])
        return {name: torch.from_numpy(value) for name, value in values.items()}

    def build(self, model, **switches):
        """A network with the fixture's weights, by the converter, in evaluation mode; without dropout, as it ran."""
        converted = spec(self.name).convert(self.state(model))
        arguments = {**converted.network, "heads": self.config["num_heads"], "dropout": 0.0, **switches}
        network = spec(self.name).network(**arguments)
        network.load_state_dict(converted.state)
        return network.eval()

    def noise(self, name, *channels):
        crop = self.config["crop"]
        return reference.noise(self.json["seed"], name, [self.config["batch"], *channels, crop, crop, crop])

    def images(self):
        return self.noise("x", len(self.order))[:, self.channels]

    def labels(self):
        classes = self.config["num_cls"]
        return (classes / (1 + torch.exp(-self.noise("label").double()))).floor().clamp(max=classes - 1).long()

    def available(self, case):
        return torch.tensor(self.json["masks"][case["mask"]])[:, self.channels]

    def batch(self, case):
        flags = self.available(case)
        return Batch.of(self.images(), self.labels(), torch.ones_like(flags), flags)

    @torch.inference_mode()
    def encode(self, system, available):
        """An encoding of `available` alone, everything else NaN, where the reference masks features."""
        return system.encode(self.images().masked_fill(~available[..., None, None, None], torch.nan), available)

    @torch.inference_mode()
    def step(self, system, case):
        """Encoding and prediction of a training step."""
        batch = self.batch(case)
        encoding = system.train().encode(batch.images, batch.present)
        return encoding, system.decode(encoding, batch.available)

    def check_prediction(self, case, prediction):
        self.check(case, "pred", prediction.probabilities())

    def check(self, case, key, actual):
        """Compares a stored output by its strided values and the moments of the whole array."""
        output = next(output for output in case["outputs"] if output["key"] == f"{case['name']}/{key}")
        values, stored = actual.detach().double().numpy(), self.stored[output["key"]]
        assert list(values.shape) == output["shape"]
        step = slice(None, None, output["stride"])
        strided = values[..., step, step, step] if values.ndim == 5 else values[:, step]
        inner = key.startswith(("dec_", "tok_"))
        limit = self.tolerance["inner_rel"] * np.abs(stored).max() if inner else self.tolerance["pred_abs"]
        np.testing.assert_allclose(strided, stored, rtol=0, atol=limit)
        mean, std, abs_sum = self.stored[f"{output['key']}#stats"]
        relative = self.tolerance["stats_rel"]
        np.testing.assert_allclose([values.std(), np.abs(values).sum()], [std, abs_sum], rtol=relative)
        np.testing.assert_allclose(values.mean(), mean, rtol=0, atol=relative * std)

    def check_training_outputs(self, case, encoding, prediction):
        self.check(case, "fuse", prediction.probabilities())
        alone = encoding.alone.softmax(2)
        for theirs, modality in zip(self.json["modality_order"], self.order, strict=True):
            self.check(case, f"sep_{theirs}", alone[:, MODALITIES.index(modality)])
        for number, probabilities in enumerate(prediction.deep_supervision_probabilities()):
            self.check(case, f"prm{number}", probabilities)

    def check_losses(self, case, named):
        """All losses that the fixture stores, and none besides."""
        prefix = f"{case['name']}/loss/"
        expected = {key.removeprefix(prefix): float(self.stored[key]) for key in self.stored if key.startswith(prefix)}
        ours = {"fuse": "fused", **{f"prm{i}": f"level{i + 1}" for i in range(4)}}
        ours |= {f"sep{i}": f"alone_{m}" for i, m in enumerate(self.order)}
        found = {f"{a}_{kind}": named[f"{b}_{kind}"].item() for a, b in ours.items() for kind in ("ce", "dice")}
        for group in ("sep", "prm"):
            for kind in ("ce", "dice"):
                found[f"{group}_{kind}"] = sum(found[f"{group}{i}_{kind}"] for i in range(4))
        found["total"] = named["total"].item()
        assert found.keys() == expected.keys() and len(named) == 2 * len(ours) + 1
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=self.tolerance["loss_rel"], err_msg=key)

    def check_gradients(self, case, model, system, name_of=our_name):
        """Norm of each parameter's gradient, and its product with a probe; a parameter that we left out has none.

        name_of  the reference's name to ours, or None
        """
        shapes = dict(map(tuple, model["parameters"]))
        # The converter brings probes into the layout of our weights.
        probes = {n: reference.noise(self.json["seed"], f"gradprobe:{n}", shape) for n, shape in shapes.items()}
        probes = spec(self.name).convert(probes).state
        gradients = {name: parameter.grad for name, parameter in system.named_parameters()}
        found = []
        for name in map(name_of, case["parameter_order"]):
            gradient = gradients.get(name)
            found.append((0, 0) if gradient is None else (gradient.norm(), (gradient * probes[name]).sum()))
        for key, values in zip(("grad_norm", "grad_dot"), np.array(found).T, strict=True):
            expected = self.stored[f"{case['name']}/{key}"]
            limit = self.tolerance["grad_rel"] * np.abs(expected).max()
            np.testing.assert_allclose(values, expected, rtol=0, atol=limit, err_msg=key)
