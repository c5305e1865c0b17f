"""M3AE against the reference's outputs, losses and gradients. See `reference.py` for the folder of numbers.

The fixture's arrays have the axes z, y, x, its regions are ET, TC, WT; ours x, y, z and WT, TC, ET.
"""

from functools import cache

import numpy as np
import pytest
import torch

from anymri.evaluation.metrics import dice
from anymri.inference.tiling import Tiling, Windows
from anymri.inference.windows import Blend, encode_windows
from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.crops import as_sides
from anymri.systems.losses import region_channels
from anymri.systems.m3ae.converter import our_name
from anymri.systems.m3ae.masking import SIDE, voxels_of
from anymri.systems.m3ae.recipe import LEVELS, dice_losses
from anymri.systems.registry import spec
from parity import reference
from parity.recording import record
from untrained import prepared

FIXTURE = reference.load("m3ae")
STORED = reference.arrays("m3ae")
OUTPUTS, SEED, CROP = FIXTURE["outputs"], FIXTURE["seed"], FIXTURE["config"]["crop"]
CASES = {case["name"]: case for case in FIXTURE["eval_cases"]}
M3AE = spec("m3ae")
# Positions of our modalities and regions among the fixture's.
CHANNELS = [[parse_modality(m) for m in FIXTURE["modality_order"]].index(m) for m in MODALITIES]
REGIONS = [FIXTURE["region_order"].index(region) for region in ("WT", "TC", "ET")]
REFERENCE_LEVELS = dict(zip(LEVELS, ("out1", "out3", "out4"), strict=True))
# The fixture has numbers of runs in float32 and in float64.
precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


# Tests share these tensors, in inference mode and in training.
@cache
@torch.inference_mode(False)
def converted_state(stage):
    model = FIXTURE["stages"][stage]
    return M3AE.convert(reference.filled_state(SEED, {**model, "parameters": model["parameters"].items()}))


def build(stage, dtype=torch.float32):
    """Return the network after a stage with the fixture's weights, in evaluation mode."""
    converted = converted_state(stage)
    with torch.device("meta"):
        network = M3AE.network(**converted.network, placement="box")
    network.load_state_dict(converted.state, assign=True)
    return network.eval().to(dtype)


def turned(volumes):
    """Exchange the axes z, y, x and x, y, z."""
    return volumes.transpose(-1, -3)


def images(name, shape, dtype=torch.float32):
    return turned(reference.noise(SEED, name, shape)[:, CHANNELS]).to(dtype)


def corners(*locations):
    """Return corners of crops, counted from the middle of the substitute, from their locations in it."""
    middle = torch.tensor([side // 2 for side in FIXTURE["config"]["substitute_image_shape"][2:]])
    ends = torch.tensor(locations).transpose(1, 2) - torch.tensor([[0], [1]])
    return (ends - middle).flip(-1)


def flags(rows):
    return torch.tensor(rows).bool()[:, CHANNELS]


def check(name, actual):
    """Compare an output, in the fixture's order of axes and regions, with the stored one of its precision."""
    output, values = OUTPUTS[name], actual.detach().numpy()
    double = values.dtype == np.float64
    stored = STORED[output["float64_key"] if double and "float64_key" in output else name]
    tolerance = output["tolerance_abs_float64" if double else "tolerance_abs_float32"]
    assert list(values.shape) == output["shape"]
    picked = values
    if "subsample" in output:
        picked = values[(..., *(slice(offset, None, step) for offset, step in output["subsample"]))]
    np.testing.assert_allclose(picked, stored, rtol=0, atol=tolerance, err_msg=name)
    if "stats_key" in output and not double:
        moments = [values.mean(dtype=float), values.std(dtype=float), np.abs(values).mean(dtype=float)]
        mean, std, abs_sum = STORED[output["stats_key"]]
        expected = [mean, std, abs_sum / values.size]
        np.testing.assert_allclose(moments, expected, rtol=0, atol=OUTPUTS[name]["tolerance_abs_float32"])


def check_logits(name, logits):
    check(name, turned(logits)[:, np.argsort(REGIONS)])


def check_gradients(stage, system):
    """Compare sums of absolute gradients; in float64 relative to each too, because the largest sets the tolerance."""
    output = OUTPUTS[f"{stage}/grad_abs_sum"]
    ours = dict(system.named_parameters())
    names = FIXTURE["stages"][stage]["parameters"]
    head = "heads.0" if len(system.heads) else "image_head"
    gradients = [ours[our_name(name, head)].grad for name in names]
    without = [name for name, gradient in zip(names, gradients, strict=True) if gradient is None]
    assert without == FIXTURE["stages"][stage]["parameters_without_gradient"]
    dtype = next(system.parameters()).dtype
    sums = torch.stack([torch.zeros((), dtype=dtype) if g is None else g.abs().sum() for g in gradients])
    check(f"{stage}/grad_abs_sum", sums)
    if dtype == torch.float64:
        relative = output["tolerance_abs_float64"] / output["max_abs"]
        np.testing.assert_allclose(sums, STORED[output["float64_key"]], rtol=relative, atol=0)


@pytest.mark.parametrize("stage", FIXTURE["stages"])
def test_converter_keeps_every_parameter(stage):
    expected = sum(np.prod(shape) for shape in FIXTURE["stages"][stage]["parameters"].values())
    assert sum(p.numel() for p in build(stage).parameters()) == expected


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_evaluation_of_a_subset_matches(name):
    """Missing modalities are NaN."""
    case, system = CASES[name], build("finetune")
    x = images(case["input"], case["shape"])
    available = flags([[channel not in case["missing"] for channel in range(4)]] * len(x))
    holey = x.masked_fill(~available[..., None, None, None], torch.nan)
    logits = system(holey, available, corners(case["location"]).expand(len(x), -1, -1)).logits
    check_logits(f"eval/{name}/logits", logits)


@torch.inference_mode()
def test_windows_match():
    """The substitute is cropped at each window's position in the padded volume; logits are blended, as there."""
    case, system = FIXTURE["sliding_case"], build("finetune")
    available = flags([[channel not in case["missing"] for channel in range(4)]])
    blended = []
    for volume in images(case["input"], case["shape"]):
        whole = prepared(volume, origin=(7, -3, 5))
        tiling = Tiling(system, whole, Windows(as_sides(case["window"]), case["overlap"], "constant"))
        blend = Blend(tiling)
        for windows in encode_windows(system, tiling):
            subset = available.expand(len(windows.places), -1)
            blend.add(windows.places, system.decode(windows.encoding, subset).logits)
        blended.append(blend.result())
    logits = torch.stack(blended)
    check_logits("sliding/logits", logits)
    check("sliding/binary_voxels", (logits.sigmoid() > 0.5).sum((0, 2, 3, 4))[np.argsort(REGIONS)].float())


def fine_tuning_batch(dtype):
    """Return one patch with the fixture's subsets, one sample per subset."""
    case = FIXTURE["finetune_case"]
    available = flags(case["present"])
    count = len(available)
    z = reference.noise(SEED, case["label"], [1, CROP, CROP, CROP]).double()
    labels = turned((4 / (1 + torch.exp(-z))).floor().clamp(max=3).long()).expand(count, -1, -1, -1)
    x = images(case["input"], [1, 4, CROP, CROP, CROP], dtype).expand(count, -1, -1, -1, -1)
    location = corners(case["location"]).expand(count, -1, -1)
    return Batch(x, labels, torch.ones_like(available), available, location, torch.zeros(count).long())


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def fine_tuning(request):
    """One step as in the recipe's last stage: network, batch, recorded outputs, losses, and those of the variant.

    The variant, which compares copies in the bottleneck, is computed from the same prediction.
    """
    system, batch = build("finetune", request.param).train(), fine_tuning_batch(request.param)
    for name, parameter in system.named_parameters():
        parameter.requires_grad_(not name.startswith(M3AE.recipes["reference"].stages[-1].frozen))
    seen = record(system, "decode")
    for depth, name in ((2, "c2d"), (3, "c3d")):
        system.unet.encoder[depth][0].register_forward_hook(lambda *args, name=name: seen.update({name: args[2]}))
    named = M3AE.objectives["train"](system, batch).named()
    prediction = seen["decode"]
    system.decode = lambda *args: prediction
    variant = M3AE.objectives["train_bottleneck"](system, batch).named()
    return system, batch, seen, named, variant


def test_fine_tuning_outputs_match(fine_tuning):
    system, batch, seen, _, _ = fine_tuning
    prediction, dtype = seen["decode"], batch.images.dtype
    for name, logits in zip(REFERENCE_LEVELS.values(), (prediction.logits, *prediction.deep_supervision), strict=True):
        check_logits(f"finetune/{name}", logits)
    for name, features in (("c2d", seen["c2d"]), ("c3d", seen["c3d"]), ("c4d", prediction.bottleneck)):
        check(f"finetune/{name}", turned(features))
    # Fine-tuning does not mask patches.
    check("finetune/mask_sum", torch.ones_like(batch.images).sum((2, 3, 4)))
    target = region_channels(batch.labels, system.out_channels).to(dtype)
    probabilities = prediction.logits.detach().sigmoid()
    check("finetune/loss.soft_dice_channels_out1", dice_losses(probabilities, target)[np.argsort(REGIONS)])
    masks = ((probabilities > 0.5).numpy(), target.bool().numpy())
    found = [[dice(*pair) for pair in zip(*sample, strict=True)] for sample in zip(*masks, strict=True)]
    check("finetune/metric.dice_out1", torch.tensor(found, dtype=dtype)[:, np.argsort(REGIONS)])


def test_fine_tuning_losses_and_gradients_match(fine_tuning):
    system, _, _, named, variant = fine_tuning
    levels = {ref: named[f"{level}_dice"] + named[f"{level}_ce"] for level, ref in REFERENCE_LEVELS.items()}
    for level, loss in levels.items():
        check(f"finetune/loss.seg.{level}", loss)
    check("finetune/loss.seg", sum(levels.values()))
    check("finetune/loss.distill", named["distillation"])
    check("finetune/loss.total", named["total"])
    check("finetune/loss.distill_bottleneck_variant", variant["distillation"])
    named["total"].backward()
    check_gradients("finetune", system)


@precisions
def test_pretraining_matches(dtype):
    case, system = FIXTURE["pretrain_case"], build("pretrain", dtype).train()
    shown = case["visible_tokens"]
    patches = torch.zeros(len(shown), 4 * (CROP // SIDE) ** 3, dtype=torch.bool)
    for row, tokens in zip(patches, shown, strict=True):
        row[tokens] = True
    visible = voxels_of(turned(patches.view(len(shown), 4, *[CROP // SIDE] * 3)[:, CHANNELS]), [CROP] * 3)
    system.draw_visible = lambda available, sides: visible
    x = images(case["input"], [len(shown), 4, CROP, CROP, CROP], dtype)
    everything = torch.ones(len(shown), 4, dtype=torch.bool)
    labels, patch = torch.zeros(x[:, 0].shape).long(), torch.arange(len(x))
    batch = Batch(x, labels, everything, everything, corners(*case["locations"]), patch)
    check("pretrain/mask_sum", visible[-1:].sum((2, 3, 4)).to(dtype))

    seen = {}
    system.image_head.register_forward_hook(lambda *args: seen.update(recon=args[2]))
    system.unet.encoder[-1].register_forward_hook(lambda *args: seen.update(c4d=args[2]))
    named = M3AE.objectives["pretraining"](system, batch).named()
    check("pretrain/recon", turned(seen["recon"])[:, np.argsort(CHANNELS)])
    check("pretrain/c4d", turned(seen["c4d"]))
    check("pretrain/loss.mse", named["reconstruction"])
    check("pretrain/loss.norm", named["substitute"])
    check("pretrain/loss.total", named["total"])
    named["total"].backward()
    check_gradients("pretrain", system)
