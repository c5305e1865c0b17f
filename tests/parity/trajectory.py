"""The first training steps of the authors' code, and the same steps by a recipe, its optimisers and its schedule.

A fixture holds losses, learning rates, gradients and parameters over a few optimiser steps in float64. `filler`
reconstructs weights and inputs; all the rest is read from the JSON file. Names of parameters are the reference's.
"""

import json
from functools import cached_property

import numpy as np
import pytest
import torch

from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.registry import spec
from anymri.training.learner import Learners
from anymri.training.process_group import start_process_group
from parity import filler, reference

# Prefix of the reference's names of parameters of the discriminator.
DISCRIMINATOR = "disc."
# Part of the largest gradient norm of a step, and of the largest value of a tensor, that differences may have.
GRADIENT_FLOOR, SAMPLE_FLOOR = 1e-6, 1e-8


class Trajectory:
    """The steps of one system; subclasses add what a fixture describes in words.

    system    name of the system
    switches  arguments of the network that its converter cannot read from the weights
    stage     number of the recipe's stage that the steps belong to
    classes   our class of each label value
    """

    def __init__(self, system, stage=0, classes=(0, 1, 2, 3), **switches):
        folder = reference.FOLDER / "trajectories"
        path = folder / f"trajectory_{system}.json"
        if not path.exists():
            pytest.skip(f"{path.name} is not in {folder}")
        self.system, self.classes = system, classes
        self.json = json.loads(path.read_text())
        with np.load(path.with_suffix(".npz")) as stored:
            self.stored = dict(stored)
        self.order = [parse_modality(name) for name in self.json["modality_order"]]
        self.tolerance = self.json["tolerance"]
        length = {"epochs": self.json["epochs"], "steps_per_epoch": self.json["steps_per_epoch"]}
        self.stage = spec(system).recipes["reference"].stages[stage].model_copy(update=length)
        self.switches = switches

    # What a step receives.

    def noise(self, name, *shape):
        return torch.from_numpy(filler.tensor(self.json["seed"], name, shape)).double()

    def turned(self, volumes):
        """Return volumes (..., X, Y, Z) from the reference's order of axes."""
        return volumes

    def images(self, step):
        shape = (self.json["batch"], len(self.order), *self.json["crop"])
        return self.turned(self.noise(f"x/{step}", *shape))[:, [self.order.index(m) for m in MODALITIES]]

    def labels(self, step):
        count = len(self.classes)
        values = self.noise(f"label/{step}", self.json["batch"], *self.json["crop"])
        return torch.tensor(self.classes)[self.turned((count * values.sigmoid()).floor().long().clamp(max=count - 1))]

    def available(self, step):
        """Return the subset of each sample, (B, 4) bool."""
        order = [parse_modality(name) for name in self.json.get("mask_order", self.json["modality_order"])]
        mask = torch.tensor(self.json["masks"][step - 1]).view(-1, len(order))
        return mask[:, [order.index(m) for m in MODALITIES]].expand(self.json["batch"], -1)

    def batch(self, step):
        available = self.available(step)
        return Batch.of(self.images(step), self.labels(step), torch.ones_like(available), available)

    def prepare(self, system, step):
        """Replace the random draws of a step by those of the fixture."""

    # The network, and where each of the reference's numbers is in it.

    def reference_state(self, prefix=""):
        """Return the reference's state dict of the system, or of the module whose names begin with `prefix`."""
        shapes = [*self.json["parameters"], *self.json["buffers"], *self.json["integer_buffers"]]
        integers = {name for name, _ in self.json["integer_buffers"]}
        return {
            name: torch.from_numpy(filler.value(self.json["seed"], name, shape, name in integers))
            for name, shape in shapes
            if name.startswith(DISCRIMINATOR) == bool(prefix)
        }

    def convert(self, state):
        return spec(self.system).convert(state)

    def convert_discriminator(self, state):
        """Return the tensors of a discriminator in our order."""
        return list(state.values())

    @cached_property
    def numbered(self):
        """The reference's state dict with the position of each number among all of them, from 1, as its value."""
        start, numbered = 1, {}
        for name, value in (self.reference_state() | self.reference_state(DISCRIMINATOR)).items():
            numbered[name] = torch.arange(start, start + value.numel(), dtype=torch.float64).view(value.shape)
            start += value.numel()
        return numbered

    def numbered_part(self, prefix=""):
        return {name: self.numbered[name] for name in self.reference_state(prefix)}

    def theirs(self, networks, select):
        """Return the reference's name -> flat values of what `select` returns of each of our tensors.

        networks  our network by the prefix of the reference's names, with the numbered tensors by our names
        select    function of our tensor to values of its shape, or None for tensors without

        Tensors of which we have nothing, or without values, are not in the result.
        """
        values = np.full(sum(v.numel() for v in self.numbered.values()) + 1, np.nan)
        for network, numbers in networks:
            tensors = dict(network.named_parameters()) | dict(network.named_buffers())
            for name, number in numbers.items():
                selected = select(tensors[name])
                if selected is not None:
                    values[number.long().flatten().numpy()] = selected.detach().double().flatten().numpy()
        pieces = {name: values[number.long().flatten().numpy()] for name, number in self.numbered.items()}
        return {name: piece for name, piece in pieces.items() if not np.isnan(piece).any()}

    # The steps.

    def run(self, steps=None):
        """Take the first steps, by default all, comparing each with the fixture."""
        steps = steps or self.json["steps"]
        converted = self.convert(self.reference_state())
        system = spec(self.system).network(**converted.network, **self.switches)
        system.load_state_dict(converted.state)
        system.double().train()
        networks = [(system, self.convert(self.numbered_part()).state)]
        group = start_process_group("cpu", "64-true")
        learners = Learners(group, spec(self.system), system, self.stage, seed=0, saved={})
        if "discriminator" in learners.each:
            discriminator = learners.each["discriminator"].network.double()
            values, numbers = (
                dict(zip(discriminator.state_dict(), self.convert_discriminator(state), strict=True))
                for state in (self.reference_state(DISCRIMINATOR), self.numbered_part(DISCRIMINATOR))
            )
            discriminator.load_state_dict(values)
            networks.append((discriminator, numbers))
        start = self.theirs(networks, lambda tensor: tensor.clone())
        for step in range(1, steps + 1):
            record = self.json["steps_recorded"][step - 1]
            self.check_rates(record, learners)
            self.prepare(system, step)
            losses = self.losses(learners.step([self.batch(step)], step))
            self.check_losses(record, losses)
            self.check_gradients(step, self.theirs(networks, lambda tensor: tensor.grad))
            if step in self.json["keep"]:
                self.check_parameters(step, start, self.theirs(networks, lambda tensor: tensor))
            if step % self.json["steps_per_epoch"] == 0:
                learners.end_epoch(None)

    def losses(self, named):
        """Return our losses by the fixture's names."""
        return named

    # Comparisons, by the rules of the fixtures.

    def check_rates(self, record, learners):
        found = [group["lr"] for each in learners.each.values() for group in each.optimiser.param_groups]
        expected = [rate for rates in record["rates"].values() for rate in rates]
        assert found == pytest.approx(expected, rel=self.tolerance["rate_rel"])

    def check_losses(self, record, losses):
        assert losses.keys() <= record["losses"].keys()
        assert any(name.endswith("total") for name in losses)
        for name, value in losses.items():
            expected = record["losses"][name]
            assert value == pytest.approx(expected, rel=self.tolerance["loss_rel"]), (record["step"], name)

    def is_compared(self, name):
        return name not in self.json.get("vanishing", ())

    def check_gradients(self, step, gradients):
        expected = dict(zip(self.parameter_names, self.stored[f"step{step}/grad_norm"], strict=True))
        floor = GRADIENT_FLOOR * max(expected.values())
        for name, norm in expected.items():
            if not self.is_compared(name):
                continue
            if norm <= 0 and name not in gradients:
                continue
            found = np.linalg.norm(gradients[name])
            assert abs(found - norm) <= self.tolerance["grad_norm_rel"] * (norm + floor), (step, name, found, norm)

    @property
    def parameter_names(self):
        return [name for name, _ in self.json["parameters"]]

    def check_parameters(self, step, start, values):
        moved = dict(zip(self.parameter_names, self.stored[f"step{step}/moved"], strict=True))
        floor = self.json.get("moved_floor", 0) * max(moved.values())
        sums = {key: self.stored[f"step{step}/{key}"] for key in ("abs_sum", "sum")}
        for number, name in enumerate(self.parameter_names):
            if name not in values:
                assert moved[name] == 0 or not self.is_compared(name), (step, name)
                continue
            if not self.is_compared(name):
                continue
            distance = np.linalg.norm(values[name] - start[name])
            limit = self.tolerance["moved_rel"] * (moved[name] + floor)
            assert abs(distance - moved[name]) <= limit, (step, name, distance, moved[name])
            limit = self.tolerance["sums_rel"] * sums["abs_sum"][number]
            for key, found in (("abs_sum", np.abs(values[name]).sum()), ("sum", values[name].sum())):
                assert abs(found - sums[key][number]) <= limit, (step, name, key)
        for name, indices in self.json["samples"].items():
            if name not in values:
                continue
            expected = self.stored[f"step{step}/sample/{name}"]
            movement = np.abs(expected - start[name][indices]).max()
            limit = self.tolerance["sample_rel"] * (movement + SAMPLE_FLOOR * np.abs(expected).max())
            assert np.abs(values[name][indices] - expected).max() <= limit, (step, name)
        for name, _ in self.json["buffers"]:
            expected = self.stored[f"step{step}/buffer/{name}"].flatten()
            limit = self.tolerance["buffer_rel"] * np.abs(expected).max()
            # The reference has buffers of blocks that never run.
            assert name not in values or np.abs(values[name] - expected).max() <= limit, (step, name)
