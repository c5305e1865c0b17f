"""Names that the checkpoints of the authors of RA-HVED and XLSTM-HVED share, and their translation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from anymri.modalities import MODALITIES
from anymri.systems.families.hved.blocks import SHARED

# The two convolutions of an encoder or decoder level.
CONVS = r"basic_module\.(?:0\.)?SingleConv(?P<conv>[12])\.conv\.(?P<leaf>\w+)"
# Patterns of names -> our names. Both systems store these modules under the same names.
RULES = {
    r"VU_blocks\.(?P<level>\d)\.0\.conv\.(?P<leaf>\w+)": "expansions.{level}.widen.conv.{leaf}",
    r"conv_blocks\.(?P<level>\d)\.conv\.(?P<leaf>\w+)": "expansions.{level}.smooth.conv.{leaf}",
    r"decoders\.(?P<level>\d)\.atten_module\.(?P<gate>enc|seg)_spatial\.(?P<leaf>\w+)": (
        "segmentation_decoder.levels.{level}.join.{gate}.depthwise.{leaf}"
    ),
    r"decoders\.(?P<level>\d)\.atten_module\.(?P<gate>enc|seg)_spatial2\.(?P<leaf>\w+)": (
        "segmentation_decoder.levels.{level}.join.{gate}.pointwise.{leaf}"
    ),
    rf"decoders\.(?P<level>\d)\.{CONVS}": "segmentation_decoder.levels.{level}.convs.{conv}.conv.{leaf}",
    r"final_conv\.(?P<leaf>\w+)": "segmentation_decoder.out.{leaf}",
    rf"rdecoder\.multi_decoders\.(?P<images>\d)\.(?P<level>\d)\.{CONVS}": (
        "image_decoders.{images}.levels.{level}.convs.{conv}.conv.{leaf}"
    ),
    r"rdecoder\.finals\.(?P<images>\d)\.(?P<leaf>\w+)": "image_decoders.{images}.out.{leaf}",
}


def words(modality_order: Sequence[str], shared_reconstruction: bool) -> dict[str, Callable[[str], str]]:
    """Return the functions that translate the groups of `RULES`, by the name of the group.

    modality_order         our names of the authors' channels, in their order
    shared_reconstruction  whether one decoder reconstructs all images
    """

    def modality(number: str) -> str:
        return modality_order[int(number)]

    return {
        "modality": modality,
        "images": (lambda number: SHARED) if shared_reconstruction else modality,
        "conv": lambda number: str(int(number) - 1),
        "gate": {"enc": "skip_gate", "seg": "upsampled_gate"}.__getitem__,
        "level": str,
        "leaf": str,
    }


def channels(modality_order: Sequence[str]) -> list[int]:
    """Return the index of each of our modalities, in our order, among the authors' channels."""
    return [modality_order.index(m) for m in MODALITIES]


def reorder_shared_images(state: Mapping[str, Tensor], modality_order: Sequence[str]) -> dict[str, Tensor]:
    """Return the last convolution of the shared image decoder with its output channels in our order.

    state  state dict under our names, its output channels in the authors' order
    """
    names = [f"image_decoders.{SHARED}.out.{leaf}" for leaf in ("weight", "bias")]
    return {name: state[name][channels(modality_order)] for name in names}
