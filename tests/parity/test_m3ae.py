"""M3AE against the reference's outputs, losses and gradients. See `reference.py` for the folder of numbers.

The fixture's arrays have the axes z, y, x, its regions are ET, TC, WT; ours x, y, z and WT, TC, ET.
"""

from functools import cache

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from anymri.evaluation.metrics import dice
from anymri.inference.windows import window_corners
from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.losses import region_channels
from anymri.systems.m3ae.converter import our_name
from anymri.systems.m3ae.masking import SIDE, voxels_of
from anymri.systems.m3ae.recipe import LEVELS, dice_losses
from anymri.systems.registry import spec
from parity import reference

FIXTURE = reference.load("m3ae")
STORED = reference.arrays("m3ae")
OUTPUTS, SEED, CROP = FIXTURE["outputs"], FIXTURE["seed"], FIXTURE["config"]["crop"]
CASES = {case["name"]: case for case in FIXTURE["eval_cases"]}
M3AE = spec("m3ae")
# Ours of the fixture's channels, which are named.
CHANNELS = [[parse_modality(m) for m in FIXTURE["modality_order"]].index(m) for m in MODALITIES]
REGIONS = [FIXTURE["region_order"].index(region) for region in ("WT", "TC", "ET")]
REFERENCE_LEVELS = dict(zip(LEVELS, ("out1", "out3", "out4"), strict=True))
# In float64 too, where the fixture has numbers of such a run.
precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@cache
def converted_state(stage):
    model = FIXTURE["stages"][stage]
    return M3AE.convert(reference.filled_state(SEED, {**model, "parameters": model["parameters"].items()}))


def build(stage, dtype=torch.float32):
    """The network after a stage with the fixture's weights, in evaluation mode."""
    converted = converted_state(stage)
    network = M3AE.network(**converted.network, placement="box")
    network.load_state_dict(converted.state)
    return network.eval().to(dtype)


def turned(volumes):
    """Axes z, y, x to x, y, z, or back."""
    return volumes.transpose(-1, -3)


def images(name, shape, dtype=torch.float32):
    return turned(reference.noise(SEED, name, shape)[:, CHANNELS]).to(dtype)


def corners(*locations):
    """Corners of crops from their places in the substitute, counted from its middle."""
    middle = torch.tensor([side // 2 for side in FIXTURE["config"]["substitute_image_shape"][2:]])
    ends = torch.tensor(locations).transpose(1, 2) - torch.tensor([[0], [1]])
    return (ends - middle).flip(-1)


def flags(rows):
    return torch.tensor(rows).bool()[:, CHANNELS]


def check(name, actual):
    """Compares an output, in the fixture's order of axes and regions, with what is stored for its precision."""
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


def check_scores(name, logits):
    check(name, turned(logits)[:, np.argsort(REGIONS)])


def check_gradients(stage, system):
    """Sums of absolute gradients; in float64 each against its own size too, because the largest sets the tolerance."""
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
    case, system = CASES[name], build("finetune")
    x = images(case["input"], case["shape"])
    available = flags([[channel not in case["missing"] for channel in range(4)]] * len(x))
    holey = x.masked_fill(~available[..., None, None, None], torch.nan)
    logits = system(holey, available, corners(case["location"]).expand(len(x), -1, -1)).logits
    check_scores(f"eval/{name}/logits", logits)


@torch.inference_mode()
def test_windows_placed_as_in_the_reference_match():
    """The substitute is cut at each window's place in the padded volume; counted logits, as the reference blends."""
    case, system = FIXTURE["sliding_case"], build("finetune")
    volume = images(case["input"], case["shape"])
    available = flags([[channel not in case["missing"] for channel in range(4)]])
    origin = system.window_origin(torch.tensor([7, -3, 5]))

    def answer(patches, windows):
        return system(patches, available.expand(len(patches), -1), window_corners(windows, origin)).logits

    logits = sliding_window_inference(volume, case["window"], 1, answer, case["overlap"], "constant", with_coord=True)
    check_scores("sliding/logits", logits)
    check("sliding/binary_voxels", (logits.sigmoid() > 0.5).sum((0, 2, 3, 4))[np.argsort(REGIONS)].float())


def fine_tuning(dtype):
    """The network as the recipe trains it in its last stage, and a batch: one patch with two subsets."""
    case = FIXTURE["finetune_case"]
    system = build("finetune", dtype).train()
    for name, parameter in system.named_parameters():
        parameter.requires_grad_(not name.startswith(M3AE.recipes["published"].stages[-1].frozen))
    available = flags(case["present"])
    count = len(available)
    z = reference.noise(SEED, case["label"], [1, CROP, CROP, CROP]).double()
    labels = turned((4 / (1 + torch.exp(-z))).floor().clamp(max=3).long()).expand(count, -1, -1, -1)
    x = images(case["input"], [1, 4, CROP, CROP, CROP], dtype).expand(count, -1, -1, -1, -1)
    place = corners(case["location"]).expand(count, -1, -1)
    return system, Batch(x, labels, torch.ones_like(available), available, place, torch.zeros(count).long())


@precisions
@torch.no_grad()
def test_fine_tuning_outputs_match(dtype):
    system, batch = fine_tuning(dtype)
    seen = {}
    for depth, name in ((2, "c2d"), (3, "c3d")):
        system.unet.encoder[depth][0].register_forward_hook(lambda *args, name=name: seen.update({name: args[2]}))
    prediction = system.decode(system.encode(batch.images, batch.present, batch.corners), batch.available)
    for name, logits in zip(REFERENCE_LEVELS.values(), (prediction.logits, *prediction.deep_supervision), strict=True):
        check_scores(f"finetune/{name}", logits)
    for name, features in (seen | {"c4d": prediction.bottleneck}).items():
        check(f"finetune/{name}", turned(features))
    # Nothing is masked inside.
    check("finetune/mask_sum", torch.ones_like(batch.images).sum((2, 3, 4)))
    target = region_channels(batch.labels, system.out_channels).to(dtype)
    probabilities = prediction.logits.sigmoid()
    check("finetune/loss.soft_dice_channels_out1", dice_losses(probabilities, target)[np.argsort(REGIONS)])
    masks = ((probabilities > 0.5).numpy(), target.bool().numpy())
    found = [[dice(*pair) for pair in zip(*sample, strict=True)] for sample in zip(*masks, strict=True)]
    check("finetune/metric.dice_out1", torch.tensor(found, dtype=dtype)[:, np.argsort(REGIONS)])


@precisions
def test_fine_tuning_losses_and_gradients_match(dtype):
    system, batch = fine_tuning(dtype)
    named = M3AE.objectives["train"](system, batch).named()
    levels = {ref: named[f"{level}_dice"] + named[f"{level}_ce"] for level, ref in REFERENCE_LEVELS.items()}
    for level, loss in levels.items():
        check(f"finetune/loss.seg.{level}", loss)
    check("finetune/loss.seg", sum(levels.values()))
    check("finetune/loss.distill", named["distillation"])
    check("finetune/loss.total", named["total"])
    named["total"].backward()
    check_gradients("finetune", system)
    with torch.no_grad():
        variant = M3AE.objectives["train_bottleneck"](system, batch).named()
    check("finetune/loss.distill_bottleneck_variant", variant["distillation"])


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
    batch = Batch(x, torch.zeros(x[:, 0].shape).long(), everything, everything, corners(*case["locations"]))
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
