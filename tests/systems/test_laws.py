"""The laws that every system keeps, once for all of them. They are bugs found in published code."""

from dataclasses import replace

import pytest
import torch

from anymri.errors import AnymriError, ModalityError, ShapeError
from anymri.inference.windows import Windows, predict
from anymri.modalities import ALL, MODALITIES, SUBSETS, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from untrained import prepared

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
# What a network needs beside its smallest crop.
SMALLER = {"sfusion": {"grid": 2}}


@pytest.fixture(params=registry.names())
def name(request):
    return request.param


# u_hved's nano preset trains no image decoders. Nor do those of robust_mseg and sfusion, whose parity tests have them;
# presets of the others train the same parts at other widths.
every_preset = pytest.mark.parametrize(
    ("name", "preset"), [*((name, "nano") for name in registry.names()), ("u_hved", "published")]
)


def tiny(name, preset="nano", **network):
    """A system as its preset says; one that takes a single crop is built for the smallest."""
    smallest = {"crop": registry.spec(name).network.minimum_side} if "crop" in registry.card(name).switches else {}
    torch.manual_seed(0)
    return registry.create(name, preset=preset, **{**smallest, **SMALLER.get(name, {}), **network})


def crop(system):
    """The smallest crop that a system takes, with sides of different length where it can."""
    side = system.usable_side(16)
    return side, side, system.usable_side(side + system.divisor)


def random_images(system, batch_size=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, len(system.modalities), *crop(system), generator=generator)


def score(system, images, available):
    with torch.inference_mode():
        return system(images, available).logits


@pytest.mark.parametrize("subset", SUBSETS[:-1], ids=str)
def test_absent_scans_never_reach_the_answer(name, subset):
    system = tiny(name)
    images = random_images(system)
    available = subset.as_tensor()
    expected = score(system, images, available)
    images[~available] = torch.nan
    torch.testing.assert_close(score(system, images, available), expected, rtol=0, atol=0)


@every_preset
def test_absent_scans_never_reach_the_losses(name, preset):
    """Scans that do not exist must not enter training either: losses and gradients stay the same, and finite."""
    batch = random_batch(tiny(name), Subset.parse("T1c+T2+FLAIR"), Subset.parse("T2+FLAIR"))
    holey = replace(batch, images=batch.images.clone().masked_fill(~batch.present[..., None, None, None], torch.nan))
    both = (losses_and_gradients(name, preset, each) for each in (batch, holey))
    for expected, found in zip(*both, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_order_of_names_does_not_matter(name):
    system = tiny(name)
    scans = dict(zip(("t1n", "t1ce", "T2w", "FLAIR"), random_images(system)[0][:, None], strict=True))
    one = score(system, *system.stack(scans))
    other = score(system, *system.stack(dict(reversed(scans.items()))))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_mixed_batch_equals_its_samples_one_by_one(name):
    """In float64: convolutions of a batch round in another order, and instance norms of a few voxels amplify that."""
    system = tiny(name).double()
    subsets = [Subset.parse(s) for s in ("T1", "T1c+FLAIR", "T1+T1c+T2+FLAIR", "T2")]
    images = random_images(system, batch_size=len(subsets)).double()
    available = torch.cat([s.as_tensor() for s in subsets])
    together = score(system, images, available)
    alone = [score(system, images[i : i + 1], available[i : i + 1]) for i in range(len(subsets))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("modalities", [("T1c", "FLAIR"), MODALITIES], ids=len)
@pytest.mark.parametrize("num_classes", [2, 5])
def test_classes_modalities_and_crop_are_independent(name, modalities, num_classes):
    system = tiny(name, num_classes=num_classes, modalities=modalities)
    images = random_images(system)
    logits = score(system, images, torch.ones(1, len(modalities), dtype=torch.bool))
    assert logits.shape == (1, system.out_channels, *images.shape[2:])


@pytest.mark.parametrize("subset", SUBSETS, ids=str)
def test_decoding_a_shared_encoding_equals_forward(name, subset):
    system = tiny(name)
    images = random_images(system)
    with torch.inference_mode():
        shared = system.decode(system.encode(images, ALL.as_tensor()), subset.as_tensor()).logits
    torch.testing.assert_close(shared, score(system, images, subset.as_tensor()), **CLOSE)


def test_a_scan_is_reconstructed_without_a_look_at_it(name):
    """Though it was encoded for other subsets; styles must not come from it either."""
    reconstructing = {"reconstruction": True} if "reconstruction" in registry.card(name).switches else {}
    system = tiny(name, **reconstructing)
    side, available = system.usable_side(16), Subset.parse("T1c+FLAIR").as_tensor()
    images, other = torch.randn(2, 1, 4, side, side, side, generator=torch.Generator().manual_seed(1))

    def reconstructed():
        with torch.inference_mode():
            return system.decode(system.encode(images, ALL.as_tensor()), available, reconstruct=True).reconstruction

    expected = reconstructed()
    assert (expected is not None) == system.reconstructs
    images[~available] = other[~available]
    torch.testing.assert_close(reconstructed(), expected, rtol=0, atol=0)


@every_preset
@pytest.mark.parametrize("training", [True, False])
def test_images_are_reconstructed_only_where_asked_for(name, preset, training):
    system = tiny(name, preset).train(training)
    images = random_images(system)
    with torch.inference_mode():
        encoding = system.encode(images, ALL.as_tensor())
        assert system.decode(encoding, ALL.as_tensor()).reconstruction is None
        reconstructed = system.decode(encoding, ALL.as_tensor(), reconstruct=True).reconstruction
    assert reconstructed.shape == images.shape if system.reconstructs else reconstructed is None


@every_preset
def test_every_parameter_receives_a_gradient(name, preset):
    # Two voxels a side at the coarsest level: instance norm stops the gradients of a single one.
    several = {"crop": 2 * registry.spec(name).network.divisor} if "crop" in registry.card(name).switches else {}
    system = tiny(name, preset, **several)
    # Some parameters learn where nothing is missing, others where something is.
    batch = random_batch(system, ALL, ALL, Subset.parse("T1c+FLAIR"))
    reached = set()
    for objective in registry.spec(name).objectives:
        system.zero_grad()
        named, discriminator = losses(name, objective, system.train(), batch)
        named["total"].backward()
        reached |= reached_parameters(system)
        if discriminator is not None:
            # Either learns by its own loss alone.
            assert not reached_parameters(discriminator)
            system.zero_grad()
            named["discriminator"].backward()
            assert not reached_parameters(system)
            assert reached_parameters(discriminator) == {n for n, _ in discriminator.named_parameters()}
    assert reached == {n for n, _ in system.named_parameters()}


def reached_parameters(network):
    return {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_no_modality_at_all_is_refused(name):
    system = tiny(name)
    with pytest.raises(ModalityError, match="no modality"):
        system(random_images(system), torch.zeros(1, 4, dtype=torch.bool))


def test_a_wrong_number_of_channels_is_refused_with_the_right_one(name):
    system = tiny(name)
    with pytest.raises(ShapeError, match=r"\(B, 4, X, Y, Z\)"):
        system(random_images(system)[:, :3], ALL.as_tensor())


def test_a_crop_that_does_not_fit_is_refused_with_the_nearest_that_does(name):
    system = tiny(name)
    good = crop(system)
    odd = torch.zeros(1, 4, good[0] + 1, *good[1:])
    with pytest.raises(ShapeError, match=f"nearest crop that works is {'x'.join(map(str, good))}") as refusal:
        system(odd, ALL.as_tensor())
    assert ("a cube of" if system.crop else "multiples of") in refusal.value.what


def test_a_volume_of_any_size_is_segmented(name):
    """In windows of the one crop that fits, where there is one; shorter sides are padded."""
    system = tiny(name)
    images = torch.randn(1, 4, 5, system.usable_side(32) + 3, 16)
    volume = prepared(images[0])
    probabilities = predict(system, volume, [ALL], Windows(system.usable_side(48), 0.5))[0].probabilities
    assert probabilities.shape == (system.out_channels, *images.shape[2:]) and probabilities.isfinite().all()


def test_decoding_what_was_not_encoded_is_refused(name):
    system = tiny(name)
    encoding = system.encode(random_images(system), Subset.parse("T1").as_tensor())
    with pytest.raises(ShapeError, match="not encoded"):
        system.decode(encoding, Subset.parse("T2").as_tensor())


def test_a_scan_that_the_network_does_not_take_is_refused(name):
    system = tiny(name, modalities=("T1c", "FLAIR"))
    with pytest.raises(AnymriError, match="T1c, FLAIR"):
        system.stack({"t2": torch.zeros(1, *crop(system))})


def test_the_card_counts_the_published_parameters(name):
    with torch.device("meta"):
        system = registry.create(name)
    assert sum(p.numel() for p in system.parameters()) == registry.card(name).parameters


def random_batch(system, present, *available):
    """A sample for each subset of `available`."""
    generator = torch.Generator().manual_seed(2)
    images = random_images(system, len(available))
    labels = torch.randint(0, system.num_classes, (len(available), *images.shape[2:]), generator=generator)
    return Batch.of(images, labels, present.as_tensor(len(available)), torch.cat([a.as_tensor() for a in available]))


def losses(name, objective, system, batch):
    """Named losses of an objective, and the discriminator that it was given, if it takes one."""
    found = registry.spec(name)
    networks = [make(system, 8) for n, make in found.discriminators.items() if n == objective]
    return found.objectives[objective](system, batch, *networks).named(), *(networks or [None])


def losses_and_gradients(name, preset, batch):
    """All losses of all objectives, and the gradients of their totals, from the same start and noise."""
    found = []
    for objective in registry.spec(name).objectives:
        system = tiny(name, preset).train()
        torch.manual_seed(3)
        named, _ = losses(name, objective, system, batch)
        named["total"].backward()
        found += [loss.detach() for loss in named.values()]
        found += [p.grad for p in system.parameters() if p.grad is not None]
    return found
