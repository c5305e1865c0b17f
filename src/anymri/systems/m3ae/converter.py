"""Conversion of the authors' checkpoints, from either repository and after either stage.

They have the modalities in our order, the regions ET, TC, WT, and the axes z, y, x, as SimpleITK reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from anymri.systems.checkpoints import Converted, checkpoint_of, expected_names, rename

_MODULES = {
    "limage": "substitute",
    "unet.conv1a": "unet.encoder.0.0",
    "unet.conv1b": "unet.encoder.0.1",
    "unet.ds1": "unet.encoder.1.0",
    "unet.conv2a": "unet.encoder.1.1",
    "unet.conv2b": "unet.encoder.1.2",
    "unet.ds2": "unet.encoder.2.0",
    "unet.conv3a": "unet.encoder.2.1",
    "unet.conv3b": "unet.encoder.2.2",
    "unet.ds3": "unet.encoder.3.0",
    "unet.conv4a": "unet.encoder.3.1",
    "unet.conv4b": "unet.encoder.3.2",
    "unet.conv4c": "unet.encoder.3.3",
    "unet.conv4d": "unet.encoder.3.4",
    "unet.up4conva": "unet.decoder.2.narrow",
    "unet.up4convb": "unet.decoder.2.residual",
    "unet.up3conva": "unet.decoder.1.narrow",
    "unet.up3convb": "unet.decoder.1.residual",
    "unet.up2conva": "unet.decoder.0.narrow",
    "unet.up2convb": "unet.decoder.0.residual",
    "unet.ds_out.0": "heads.2",
    "unet.ds_out.1": "heads.1",
}
_HEAD = "unet.up1conv"
_LEAVES = {"gn1": "convs.0.norm", "conv1": "convs.0.conv", "gn2": "convs.1.norm", "conv2": "convs.1.conv"}
_NAME = re.compile(rf"(?P<module>.+?)(?:\.(?P<part>{'|'.join(_LEAVES)}))?(?:\.(?P<leaf>weight|bias))?")


def our_name(name: str, head: str) -> str | None:
    """Return our name for a name of the reference, or None for a foreign one.

    `unet.conv2a.gn1.weight` becomes `unet.encoder.1.1.convs.0.norm.weight`.

    head  our name of the reference's head at full resolution
    """
    found = _NAME.fullmatch(name)
    assert found
    module = {**_MODULES, _HEAD: head}.get(found["module"])
    return module and ".".join(filter(None, (module, _LEAVES.get(found["part"]), found["leaf"])))


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the authors' state dict as ours; names and shapes give width, regions, grid and stage."""
    segments = any(name.startswith("unet.ds_out.") for name in state)
    with checkpoint_of("M3AE's reference"):
        network: dict[str, Any] = {
            "width": len(state["unet.conv1a.weight"]),
            "num_classes": len(state[f"{_HEAD}.weight"]) + 1 if segments else 4,
            "grid": tuple(reversed(state["limage"].shape[2:])),
            "heads": "segmentation" if segments else "reconstruction",
        }
    expected = expected_names("m3ae", network)
    # Before fine-tuning, the head at full resolution reconstructs images.
    renamed = rename(state, lambda name: our_name(name, "heads.0" if segments else "image_head"), expected)
    ours = {name: _reordered(name, value) for name, value in renamed.items()}
    return Converted(network, ours, frozen=("substitute",))


def _reordered(name: str, value: Tensor) -> Tensor:
    """Return a parameter with axes x, y, z and regions WT, TC, ET, from z, y, x and ET, TC, WT."""
    if value.ndim > 1:
        value = value.transpose(-1, -3)
    return value.flip(0) if name.startswith("heads.") else value.contiguous()
