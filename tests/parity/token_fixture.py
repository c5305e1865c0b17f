"""Fixtures of mmFormer and IM-Fuse: inputs, weights, and comparisons of outputs, losses and gradients."""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch

from anymri.layers.preactivation import LEVELS
from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.families.tokens.checkpoints import our_name
from anymri.systems.families.tokens.objective import TokenEncoding, TokenPrediction
from anymri.systems.registry import spec
from parity import filler, reference


@dataclass
class TrainingStep:
    """Everything that one training step computes; `gradients` is empty where the fixture has none."""

    encoding: TokenEncoding
    prediction: TokenPrediction
    losses: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]


@contextmanager
def recorded_modules(modules):
    """Context that yields a dictionary, filled with inputs and output of each module that runs, under its name."""
    seen = {}
    handles = [
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: (*inputs, output)}))
        for name, module in modules.items()
    ]
    yield seen
    for handle in handles:
        handle.remove()


class TokenFixture:
    """Fixture of one system; inputs are in our order of the modalities."""

    def __init__(self, name):
        self.name = name
        self.spec = spec(name)
        self.json = reference.load(name)
        self.stored = reference.arrays(name)
        self.config, self.tolerance = self.json["config"], self.json["tolerance"]
        self.order = [parse_modality(m) for m in self.json["modality_order"]]
        self.channels = [self.order.index(m) for m in MODALITIES]
        self.cases = {case["name"]: case for case in self.json["cases"]}
        # Variants of a network share most weights, and drawing them takes long.
        self._values = {}

    def state(self, model):
        """Return the reference's state dict of a model that lists its `parameters`."""
        return {name: self._value(name, tuple(shape), model) for name, shape in model["parameters"]}

    def _value(self, name, shape, model):
        if (name, shape) not in self._values:
            value = filler.value(self.json["seed"], name, shape, name in model["integer_buffers"])
            self._values[name, shape] = torch.from_numpy(value)
        return self._values[name, shape]

    @torch.inference_mode(False)
    def build(self, model, **switches):
        """Return a network with the converted weights of the fixture, in evaluation mode, without dropout.

        It can be trained also when the first test that needs it runs in inference mode.
        """
        converted = self.spec.convert(self.state(model))
        arguments = {**converted.network, "heads": self.config["num_heads"], "dropout": 0.0, **switches}
        with torch.device("meta"):
            network = self.spec.network(**arguments)
        network.load_state_dict(converted.state, assign=True)
        return network.eval()

    def noise(self, name, *channels):
        crop = self.config["crop"]
        return reference.noise(self.json["seed"], name, [self.config["batch"], *channels, crop, crop, crop])

    def images(self):
        """Return all modalities, (B, M, X, Y, Z)."""
        return self.noise("x", len(self.order))[:, self.channels]

    def labels(self):
        """Return the classes, (B, X, Y, Z)."""
        classes = self.config["num_cls"]
        return (classes / (1 + torch.exp(-self.noise("label").double()))).floor().clamp(max=classes - 1).long()

    def available(self, case):
        """Return the flags of the case's subset, (B, M) bool."""
        return torch.tensor(self.json["masks"][case["mask"]])[:, self.channels]

    @torch.inference_mode()
    def encode_all(self, system):
        """Return the encoding of all modalities."""
        images = self.images()
        return system.encode(images, torch.ones(images.shape[:2], dtype=torch.bool))

    @torch.inference_mode()
    def encode(self, system, available):
        """Return the encoding of `available` alone, with NaN in place of the other modalities."""
        return system.encode(self.images().masked_fill(~available[..., None, None, None], torch.nan), available)

    def step(self, system, case):
        """Return the `TrainingStep` of a case: the step sees all modalities, its subset is the case's."""
        available, outputs = self.available(case), {}
        batch = Batch.of(self.images(), self.labels(), torch.ones_like(available), available)

        def recorded(name):
            method = getattr(system, name)
            return patch.object(system, name, lambda *arguments: outputs.setdefault(name, method(*arguments)))

        system.train().zero_grad()
        with ExitStack() as stack:
            stack.callback(system.eval)
            stack.enter_context(torch.set_grad_enabled(case.get("grad", False)))
            for name in ("encode", "decode"):
                stack.enter_context(recorded(name))
            losses = self.spec.objectives["train"](system, batch).named()
            if case.get("grad"):
                losses["total"].backward()
        gradients = {name: p.grad for name, p in system.named_parameters() if p.grad is not None}
        return TrainingStep(outputs["encode"], outputs["decode"], losses, gradients)

    def check_prediction(self, case, prediction):
        self.check(case, "pred", prediction.probabilities())

    def check(self, case, key, actual):
        """Compare an output with its stored values, which are strided, and with the moments of the whole array."""
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

    def check_training_outputs(self, case, step):
        """Compare the fused output, those of each modality alone and those of the coarser levels."""
        self.check(case, "fuse", step.prediction.probabilities())
        alone = step.encoding.alone.softmax(2)
        for name, modality in zip(self.json["modality_order"], self.order, strict=True):
            self.check(case, f"sep_{name}", alone[:, MODALITIES.index(modality)])
        for number, probabilities in enumerate(step.prediction.deep_supervision_probabilities()):
            self.check(case, f"prm{number}", probabilities)

    def check_losses(self, case, losses):
        """Compare all losses; there must be as many as in the fixture."""
        prefix = f"{case['name']}/loss/"
        expected = {key.removeprefix(prefix): float(self.stored[key]) for key in self.stored if key.startswith(prefix)}
        groups = {
            "sep": {f"sep{i}": f"alone_{m}" for i, m in enumerate(self.order)},
            "prm": {f"prm{i}": f"level{i + 1}" for i in range(LEVELS - 1)},
        }
        ours = {"fuse": "fused", **groups["sep"], **groups["prm"]}
        found = {f"{a}_{kind}": losses[f"{b}_{kind}"].item() for a, b in ours.items() for kind in ("ce", "dice")}
        for group, names in groups.items():
            for kind in ("ce", "dice"):
                found[f"{group}_{kind}"] = sum(found[f"{name}_{kind}"] for name in names)
        found["total"] = losses["total"].item()
        assert found.keys() == expected.keys() and len(losses) == 2 * len(ours) + 1
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=self.tolerance["loss_rel"], err_msg=key)

    def check_gradients(self, case, model, gradients, name_of=our_name):
        """Compare the norm of each parameter's gradient and its product with a probe; unused parameters have zero.

        name_of  function of the reference's name to ours, or to None
        """
        found = self.gradient_products(case, model, gradients, name_of)
        for key, values in zip(("grad_norm", "grad_dot"), found, strict=True):
            expected = self.stored[f"{case['name']}/{key}"]
            limit = self.tolerance["grad_rel"] * np.abs(expected).max()
            np.testing.assert_allclose(values, expected, rtol=0, atol=limit, err_msg=key)

    def gradient_products(self, case, model, gradients, name_of=our_name):
        """Return the norms of the gradients and their products with probes, (2, number of parameters)."""
        shapes = dict(map(tuple, model["parameters"]))
        # The converter brings probes into the layout of our weights.
        probes = {n: reference.noise(self.json["seed"], f"gradprobe:{n}", shape) for n, shape in shapes.items()}
        probes = self.spec.convert(probes).state
        found = []
        for name in map(name_of, case["parameter_order"]):
            gradient = gradients.get(name)
            found.append((0, 0) if gradient is None else (gradient.norm(), (gradient * probes[name]).sum()))
        return np.array(found).T
