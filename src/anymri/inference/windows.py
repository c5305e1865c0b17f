"""A whole volume through a network in overlapping windows, for many subsets at one encoding a window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from anymri.data.preprocessing import Preprocessed
from anymri.errors import ConfigurationError
from anymri.modalities import MODALITIES, Subset
from anymri.systems.base import System, middle_corners
from anymri.systems.weights import WeightsCard

# Small windows go through the network together: on a CPU torch's fast convolutions want several at once.
VOXELS_AT_ONCE = 128**3


class Volume(NamedTuple):
    """A case as networks take it.

    images      (1, 4, X, Y, Z) of any size, zero where absent
    present     (1, 4) bool
    background  (4,) what lies around the images
    origin      where the images' first voxel lies, counted from the middle of the scan's grid; by default they lie in
                its middle
    """

    images: Tensor
    present: Tensor
    background: Tensor
    origin: Sequence[int] | None = None

    @classmethod
    def of(cls, data: Preprocessed) -> Self:
        present = torch.tensor([[m in data.modalities for m in MODALITIES]])
        images = torch.zeros(1, len(MODALITIES), *data.images.shape[1:])
        background = torch.zeros(len(MODALITIES))
        images[present] = torch.from_numpy(data.images)
        background[present[0]] = torch.from_numpy(data.background)
        return cls(images, present, background, data.origin)


class Windows(NamedTuple):
    """How cubic windows cover a volume; sides of a volume shorter than a window are padded with the background.

    side      voxels, where the system does not fix it
    overlap   share of a window that its neighbour covers
    blending  weights of a window's voxels where windows overlap: `gaussian`, most in its middle, or `constant`
    """

    side: int
    overlap: float
    blending: str = "gaussian"

    @classmethod
    def of(cls, card: WeightsCard) -> Self:
        return cls(card.window, card.window_overlap, card.window_blending)


@torch.inference_mode()
def predict(system: System[Any], volume: Volume, subsets: Sequence[Subset], windows: Windows) -> Tensor:
    """Probabilities (S, K, X, Y, Z) on the CPU, one row a subset."""

    def answer(encoding: Any, available: Tensor) -> Tensor:
        return system.decode(encoding, available).probabilities()

    blended = _blended(answer, system, volume, subsets, windows)
    return blended.reshape(len(subsets), -1, *blended.shape[1:])


@torch.inference_mode()
def predict_and_rebuild(
    system: System[Any], volume: Volume, subsets: Sequence[Subset], windows: Windows
) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """For each subset its probabilities, (K, X, Y, Z), and every modality that it lacks as the system rebuilds it from
    the others, (X, Y, Z); all on the CPU and blended alike.

    Raises `ConfigurationError` if the system rebuilds no images.
    """
    check_rebuilds(system)
    lacking = [[m for m in MODALITIES if m not in subset] for subset in subsets]

    def answer(encoding: Any, available: Tensor) -> Tensor:
        absent = ~available[0]
        prediction = system.decode(encoding, available, reconstruct=bool(absent.any()))
        if prediction.reconstruction is None:
            return prediction.probabilities()
        return torch.cat([prediction.probabilities(), prediction.reconstruction[:, absent]], dim=1)

    answers = torch.split(
        _blended(answer, system, volume, subsets, windows), [system.num_scores + len(names) for names in lacking]
    )
    return [
        (channels[: system.num_scores], dict(zip(names, channels[system.num_scores :], strict=True)))
        for channels, names in zip(answers, lacking, strict=True)
    ]


def check_rebuilds(system: System[Any]) -> None:
    """Raises `ConfigurationError` if the system rebuilds no images."""
    if not system.rebuilds_images:
        raise ConfigurationError(
            f"These weights of {type(system).__name__} rebuild no images: they have no image decoders.",
            "Leave out what needs rebuilt scans, or take weights that rebuild them, as published recipes of u_hved, "
            "ra_hved, xlstm_hved, robust_mseg and sfusion train.",
        )


def _blended(
    answer: Callable[[Any, Tensor], Tensor],
    system: System[Any],
    volume: Volume,
    subsets: Sequence[Subset],
    windows: Windows,
) -> Tensor:
    """What `answer` says of each window's one encoding and of each subset, (B, 4) bool: channels (C, X, Y, Z) of all
    subsets one after the other."""
    from monai.inferers.utils import sliding_window_inference

    images, present, background, origin = volume
    side = system.crop or windows.side
    device = next(system.parameters()).device
    padded, inside = _pad(images, background, side)
    lies_at = middle_corners(1, images.shape[2:])[0, 0] if origin is None else torch.tensor(origin)
    first = system.window_origin(lies_at - torch.tensor([axis.start or 0 for axis in inside]))
    at_once = max(1, VOXELS_AT_ONCE // side**3)

    def answers(patches: Tensor, places: list[list[slice]]) -> Tensor:
        corners = window_corners(places, first).to(device)
        encoding = system.encode(patches, present.to(device).expand(len(patches), -1), corners)
        choices = (subset.as_tensor(len(patches)).to(device) for subset in subsets)
        return torch.cat([answer(encoding, choice) for choice in choices], dim=1)

    with system.fixed_weights():
        blended: Tensor = sliding_window_inference(
            padded,
            side,
            at_once,
            answers,
            windows.overlap,
            windows.blending,
            sw_device=device,
            device="cpu",
            with_coord=True,
        )
    return blended[(0, slice(None), *inside)]


def window_corners(windows: Sequence[Sequence[slice]], origin: Tensor) -> Tensor:
    """Corners (B, 2, 3) of windows, each its slices of batch, channels, X, Y and Z, in a volume that begins at
    `origin`; see `middle_corners`."""
    ends = [[[axis.start for axis in window[2:]], [axis.stop - 1 for axis in window[2:]]] for window in windows]
    return torch.tensor(ends) + origin


def _pad(images: Tensor, background: Tensor, window: int) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """Images at least as large as the window, and where the original lies in them."""
    sides = images.shape[2:]
    if min(sides) >= window:
        return images, (slice(None), slice(None), slice(None))
    target = [max(side, window) for side in sides]
    x, y, z = (slice((t - s) // 2, (t - s) // 2 + s) for s, t in zip(sides, target, strict=True))
    padded = background[None, :, None, None, None].repeat(1, 1, *target)
    padded[..., x, y, z] = images
    return padded, (x, y, z)
