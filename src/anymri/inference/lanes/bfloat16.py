"""The lane `torch-bf16`: PyTorch with convolutions and products of matrices in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anymri.systems.computation import Computation
from anymri.systems.contract import Prediction, System


class Bfloat16(Computation):
    """Computation under torch's autocast; logits and images are float32 again."""

    def encode(self, system: System[Any], images: Tensor, present: Tensor, corners: Tensor | None) -> Any:
        """Return the encoding, partly in bfloat16."""
        with torch.autocast(images.device.type, torch.bfloat16):
            return super().encode(system, images, present, corners)

    def decode(self, system: System[Any], encoding: Any, available: Tensor, reconstruct: bool) -> Prediction:
        """Return the prediction, with logits and reconstruction in float32."""
        with torch.autocast(available.device.type, torch.bfloat16):
            prediction = super().decode(system, encoding, available, reconstruct)
        prediction.logits = prediction.logits.float()
        if prediction.reconstruction is not None:
            prediction.reconstruction = prediction.reconstruction.float()
        return prediction


def obstacle(device: torch.device) -> str | None:
    """Return what prevents the lane on a device, as a sentence; None if nothing does.

    CPUs without the instructions emulate them, and are slower than in float32.
    """
    if device.type == "cpu":
        has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return None if has else "This CPU has no instructions for bfloat16, which the lane torch-bf16 needs."
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    return f"The device {device} has no fast bfloat16, which the lane torch-bf16 needs."
