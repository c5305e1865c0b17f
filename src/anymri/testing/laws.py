"""Laws that every system keeps, as tests that a package with systems of its own runs by one import.

    # test_my_system.py
    from anymri.testing.laws import *  # noqa: F403

    SYSTEMS = ["my_system"]

`SYSTEMS` names the systems under test, by default all that are registered. Two more names are optional:
`SMALLER`, system -> arguments that make its network small enough for a test; `PRESETS`, system -> presets whose losses
are tested, by default "nano" or else the first. Most laws exclude a bug found in published code. They run on a CPU.
"""

# Dispatch modes and backward passes of torch are untyped.
# mypy: allow-untyped-calls
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from anymri.data.prepared import Prepared, whole_box
from anymri.errors import AnymriError, ModalityError, ShapeError
from anymri.inference.tiling import Windows
from anymri.inference.windows import predict
from anymri.modalities import ALL, MODALITIES, SUBSETS, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.systems.contract import Prediction, System
from anymri.systems.losses import StepLoss
from anymri.testing.counting import count_gmacs, count_parameters

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)
DISCRIMINATOR_WIDTH = 8
# Half of the last digit that cards give.
GMACS_ROUNDING = 0.05 + 1e-6


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each law for every system that the test module names."""
    module = metafunc.module
    names = getattr(module, "SYSTEMS", None) or registry.names()
    smaller = getattr(module, "SMALLER", {})
    presets = getattr(module, "PRESETS", {})
    if "subject" in metafunc.fixturenames:
        subjects = [Subject(name, _default_preset(name), smaller.get(name, {})) for name in names]
        metafunc.parametrize("subject", subjects, ids=[subject.name for subject in subjects])
    if "variant" in metafunc.fixturenames:
        variants = [
            Subject(name, preset, smaller.get(name, {}))
            for name in names
            for preset in presets.get(name, [_default_preset(name)])
        ]
        metafunc.parametrize("variant", variants, ids=[f"{each.name}-{each.preset}" for each in variants])


def _default_preset(name: str) -> str:
    presets = registry.card(name).presets
    return "nano" if "nano" in presets else next(iter(presets))


@dataclass(frozen=True)
class Subject:
    """A system under test.

    name     name of the system
    preset   preset of its network
    smaller  arguments that override the preset
    """

    name: str
    preset: str
    smaller: Mapping[str, Any] = field(hash=False)

    def create(self, **network: Any) -> System[Any]:
        """Return a system with the same weights at every call; where the crop is an argument, with the smallest."""
        smallest = {"crop": registry.spec(self.name).network.minimum_side} if self.has_switch("crop") else {}
        torch.manual_seed(0)
        return registry.create(self.name, self.preset, **{**smallest, **self.smaller, **network})

    def has_switch(self, argument: str) -> bool:
        """Return whether the network takes an argument."""
        return argument in registry.card(self.name).switches

    def objectives(self) -> list[str]:
        """Return the names of the objectives."""
        return list(registry.spec(self.name).objectives)

    def discriminator(self, objective: str, system: System[Any]) -> nn.Module | None:
        """Return the discriminator of an objective, or None."""
        make = registry.spec(self.name).discriminators.get(objective)
        return make(system, DISCRIMINATOR_WIDTH) if make else None

    def loss(self, objective: str, system: System[Any], batch: Batch, discriminator: nn.Module | None) -> StepLoss:
        """Return the loss of one step."""
        networks = [] if discriminator is None else [discriminator]
        return registry.spec(self.name).objectives[objective](system, batch, *networks)


@cache
def shared_system(subject: Subject) -> System[Any]:
    """Return a system that several laws read."""
    return subject.create()


@cache
def shared_logits(subject: Subject, subset: Subset) -> Tensor:
    """Return the logits of one subset of random images."""
    system = shared_system(subject)
    return logits_of(system, random_images(system), subset.as_tensor())


def logits_of(system: System[Any], images: Tensor, available: Tensor) -> Tensor:
    """Return the logits (B, K, X, Y, Z) of images (B, M, X, Y, Z) and flags (B, M)."""
    with torch.inference_mode():
        prediction: Prediction = system(images, available)
        return prediction.logits


def smallest_crop(system: System[Any]) -> tuple[int, int, int]:
    """Return the sides of the smallest crop that a system takes, a cube where any cube fits."""
    side = max(system.usable_crop((1, 1, 1)))
    return system.usable_crop((side, side, side))


def oblong_crop(system: System[Any]) -> tuple[int, int, int]:
    """Return a small crop with sides of different lengths, where a system takes one."""
    x, y, z = smallest_crop(system)
    return system.usable_crop((x, y, z + system.divisor))


def random_images(system: System[Any], batch_size: int = 1, crop: tuple[int, int, int] | None = None) -> Tensor:
    """Return standard-normal images (B, M, X, Y, Z), by default of the smallest crop."""
    generator = torch.Generator("cpu").manual_seed(1)
    sides = crop or smallest_crop(system)
    return torch.randn(batch_size, len(system.modalities), *sides, generator=generator, device="cpu")


def random_batch(system: System[Any], present: Subset, *available: Subset) -> Batch:
    """Return a batch with one sample per subset of `available`."""
    generator = torch.Generator("cpu").manual_seed(2)
    images = random_images(system, len(available))
    shape = (len(available), *images.shape[2:])
    labels = torch.randint(0, system.num_classes, shape, generator=generator, device="cpu")
    return Batch.of(images, labels, present.as_tensor(len(available)), torch.cat([a.as_tensor() for a in available]))


def reached_parameters(network: nn.Module) -> set[str]:
    """Return the names of parameters with a gradient that is not zero."""
    return {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_missing_modalities_never_reach_the_output(subject: Subject) -> None:
    system = shared_system(subject)
    for subset in SUBSETS[:-1]:
        images, available = random_images(system), subset.as_tensor()
        images[~available] = torch.nan
        assert_equal(logits_of(system, images, available), shared_logits(subject, subset), msg=_named(subset))


def test_missing_modalities_never_reach_the_losses(variant: Subject) -> None:
    """Scans that do not exist do not enter training: losses and gradients stay the same, and finite."""
    batch = random_batch(shared_system(variant), Subset.parse("T1c+T2+FLAIR"), Subset.parse("T2+FLAIR"))
    missing = ~batch.present[..., None, None, None]
    with_nan = replace(batch, images=batch.images.clone().masked_fill(missing, torch.nan))
    pairs = zip(_losses_and_gradients(variant, batch), _losses_and_gradients(variant, with_nan), strict=True)
    for expected, found in pairs:
        assert_equal(found, expected)


def _losses_and_gradients(variant: Subject, batch: Batch) -> list[Tensor]:
    """Return all losses of all objectives and the gradients of their totals, from the same weights and noise."""
    found: list[Tensor] = []
    system = variant.create().train()
    for objective in variant.objectives():
        system.zero_grad()
        torch.manual_seed(3)
        loss = variant.loss(objective, system, batch, variant.discriminator(objective, system))
        loss.total.backward()
        found += [value.detach() for value in loss.named().values()]
        found += [p.grad.clone() for p in system.parameters() if p.grad is not None]
    return found


def test_order_of_names_does_not_matter(subject: Subject) -> None:
    system = shared_system(subject)
    scans = dict(zip(("t1n", "t1ce", "T2w", "FLAIR"), random_images(system)[0][:, None], strict=True))
    found = logits_of(system, *system.stack(dict(reversed(scans.items()))))
    assert_equal(found, logits_of(system, *system.stack(scans)))


def test_mixed_batch_equals_its_samples(subject: Subject) -> None:
    """In float64: convolutions of a batch round in another order, and instance norms of a few voxels amplify that."""
    system = subject.create().double()
    subsets = [Subset.parse(s) for s in ("T1", "T1c+FLAIR", "T1+T1c+T2+FLAIR", "T2")]
    images = random_images(system, batch_size=len(subsets)).double()
    available = torch.cat([s.as_tensor() for s in subsets])
    together = logits_of(system, images, available)
    alone = [logits_of(system, images[i : i + 1], available[i : i + 1]) for i in range(len(subsets))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("modalities", [("T1c", "FLAIR"), MODALITIES], ids=len)
@pytest.mark.parametrize("num_classes", [2, 5])
def test_classes_modalities_and_crop_are_independent(
    subject: Subject, modalities: tuple[str, ...], num_classes: int
) -> None:
    system = subject.create(num_classes=num_classes, modalities=modalities)
    images = random_images(system, crop=oblong_crop(system))
    logits = logits_of(system, images, torch.ones(1, len(modalities), dtype=torch.bool, device="cpu"))
    assert logits.shape == (1, system.out_channels, *images.shape[2:])


def test_decoding_a_shared_encoding_equals_forward(subject: Subject) -> None:
    system = shared_system(subject)
    with torch.inference_mode():
        encoding = system.encode(random_images(system), ALL.as_tensor())
        for subset in SUBSETS:
            logits = system.decode(encoding, subset.as_tensor()).logits
            expected = shared_logits(subject, subset)
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4, msg=_named(subset))


def _named(subset: Subset) -> Callable[[str], str]:
    return lambda message: f"{subset}: {message}"


def test_a_missing_modality_is_reconstructed_from_the_available_ones(subject: Subject) -> None:
    """Though it was encoded for other subsets; styles must not come from it either."""
    system = subject.create(**({"reconstruction": True} if subject.has_switch("reconstruction") else {}))
    available = Subset.parse("T1c+FLAIR").as_tensor()
    images, other = random_images(system, batch_size=2).split(1)

    def reconstructed() -> Tensor | None:
        with torch.inference_mode():
            return system.decode(system.encode(images, ALL.as_tensor()), available, reconstruct=True).reconstruction

    expected = reconstructed()
    assert (expected is not None) == system.reconstructs
    images[~available] = other[~available]
    assert_equal(reconstructed(), expected)


@pytest.mark.parametrize("training", [True, False])
def test_images_are_reconstructed_only_on_request(variant: Subject, training: bool) -> None:
    system = variant.create().train(training)
    images = random_images(system)
    with torch.inference_mode():
        encoding = system.encode(images, ALL.as_tensor())
        assert system.decode(encoding, ALL.as_tensor()).reconstruction is None
        reconstruction = system.decode(encoding, ALL.as_tensor(), reconstruct=True).reconstruction
    assert (reconstruction is not None) == system.reconstructs
    assert reconstruction is None or reconstruction.shape == images.shape


def test_every_parameter_receives_a_gradient(variant: Subject) -> None:
    # Two voxels per side at the coarsest level: instance norm stops the gradients of a single one.
    several = {"crop": 2 * registry.spec(variant.name).network.divisor} if variant.has_switch("crop") else {}
    system = variant.create(**several).train()
    # Some parameters learn where nothing is missing, others where something is.
    batch = random_batch(system, ALL, ALL, Subset.parse("T1c+FLAIR"))
    reached = set()
    for objective in variant.objectives():
        system.zero_grad()
        discriminator = variant.discriminator(objective, system)
        loss = variant.loss(objective, system, batch, discriminator)
        loss.total.backward()
        reached |= reached_parameters(system)
        if discriminator is None:
            assert loss.discriminator is None
            continue
        # Each network is trained by its loss alone.
        assert not reached_parameters(discriminator)
        system.zero_grad()
        assert loss.discriminator is not None
        loss.discriminator.backward()
        assert not reached_parameters(system)
        assert reached_parameters(discriminator) == {n for n, _ in discriminator.named_parameters()}
    assert reached == {n for n, _ in system.named_parameters()}


def test_a_sample_without_modalities_is_refused(subject: Subject) -> None:
    system = shared_system(subject)
    with pytest.raises(ModalityError, match="no modality"):
        system(random_images(system), torch.zeros(1, 4, dtype=torch.bool, device="cpu"))


def test_a_wrong_number_of_channels_is_refused_with_the_right_one(subject: Subject) -> None:
    system = shared_system(subject)
    with pytest.raises(ShapeError, match=r"\(B, 4, X, Y, Z\)"):
        system(random_images(system)[:, :3], ALL.as_tensor())


def test_a_crop_that_does_not_fit_is_refused_with_the_nearest_that_does(subject: Subject) -> None:
    system = shared_system(subject)
    fitting = smallest_crop(system)
    # Every crop fits a network of divisor 1 and minimum side 1 but one without voxels.
    side = fitting[0] + 1 if system.divisor > 1 else fitting[0] - 1
    images = torch.zeros(1, 4, side, *fitting[1:], device="cpu")
    with pytest.raises(ShapeError, match=f"nearest crop that works is {'x'.join(map(str, fitting))}") as refusal:
        system(images, ALL.as_tensor())
    assert ("a cube of" if system.crop else "multiples of") in refusal.value.what


def test_a_volume_of_any_size_is_segmented(subject: Subject) -> None:
    """In windows of the one crop that fits, where there is one; shorter sides are padded."""
    system = shared_system(subject)
    sides = system.usable_crop((32, 32, 32))
    volume = random_volume(5, sides[1] + 3, 16)
    probabilities = predict(system, volume, [ALL], Windows(sides, 0.5))[0].probabilities
    assert probabilities.shape == (system.out_channels, *volume.images.shape[1:])
    assert probabilities.isfinite().all()


def random_volume(*sides: int) -> Prepared:
    """Return a case with all modalities whose images (4, X, Y, Z) fill their grid."""
    images = torch.randn(4, *sides, generator=torch.Generator("cpu").manual_seed(4), device="cpu")
    x, y, z = sides
    return Prepared(images, ALL.as_tensor()[0], torch.zeros(4, device="cpu"), None, whole_box(sides), (x, y, z))


def test_decoding_a_modality_that_was_not_encoded_is_refused(subject: Subject) -> None:
    system = shared_system(subject)
    with torch.inference_mode():
        encoding = system.encode(random_images(system), Subset.parse("T1").as_tensor())
    with pytest.raises(ShapeError, match="not encoded"):
        system.decode(encoding, Subset.parse("T2").as_tensor())


def test_a_modality_that_the_network_does_not_take_is_refused(subject: Subject) -> None:
    system = subject.create(modalities=("T1c", "FLAIR"))
    with pytest.raises(AnymriError, match="T1c, FLAIR"):
        system.stack({"t2": torch.zeros(1, *smallest_crop(system), device="cpu")})


class NamedDevices(TorchDispatchMode):
    """Mode that fails where a tensor is created on the default device, which must be "meta"."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        leaves: Iterable[Any] = tree_leaves(output)
        if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in leaves):
            raise AssertionError(f"{func} creates a tensor without naming its device (device=...).")
        return output


def test_every_tensor_is_created_on_a_named_device(variant: Subject) -> None:
    """A tensor on the default device fails beside a network on a GPU; here the default device is "meta"."""
    system = variant.create()
    batch = random_batch(system, Subset.parse("T1c+T2+FLAIR"), Subset.parse("T2+FLAIR"), Subset.parse("T1c+T2+FLAIR"))
    sides = smallest_crop(system)
    volume = random_volume(*sides)
    discriminators = {objective: variant.discriminator(objective, system) for objective in variant.objectives()}
    with torch.device("meta"), NamedDevices():
        predict(system, volume, [ALL, Subset.parse("T1c")], Windows(sides, 0.5), reconstruct=system.reconstructs)
        system(*system.stack({"flair": batch.images[:, 3], "t1c": batch.images[:, 1]}))
        system.train()
        for objective, discriminator in discriminators.items():
            _step(variant, objective, system, batch, discriminator)


def _step(variant: Subject, objective: str, system: System[Any], batch: Batch, discriminator: nn.Module | None) -> None:
    """Train system and discriminator for one step."""
    networks = [system] if discriminator is None else [system, discriminator]
    optimisers = [torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9) for network in networks]
    for optimiser in optimisers:
        optimiser.zero_grad()
    loss = variant.loss(objective, system, batch, discriminator)
    loss.total.backward()
    if loss.discriminator is not None:
        loss.discriminator.backward()
    for optimiser in optimisers:
        optimiser.step()


def test_the_card_counts_the_parameters(subject: Subject) -> None:
    card = registry.card(subject.name)
    trained, used = count_parameters(subject.name)
    assert trained == card.parameters
    assert card.inference_parameters in (None, used)


def test_the_card_counts_the_multiply_adds(subject: Subject) -> None:
    stated = registry.card(subject.name).gmacs
    counted = count_gmacs(subject.name) if stated else {}
    for what, gmacs in stated.items():
        assert counted[what] == pytest.approx(gmacs, rel=0, abs=GMACS_ROUNDING), what


def test_the_card_explains_every_argument_of_the_network(subject: Subject) -> None:
    arguments = {*inspect.signature(registry.spec(subject.name).network.__init__).parameters} - {"self"}
    assert {*registry.card(subject.name).switches} == arguments - {"num_classes", "modalities"}
