"""The base of the token systems: one encoder and transformer per modality, before any fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from anymri.layers.containers import ModuleDict
from anymri.layers.preactivation import STRIDE
from anymri.regions import OutputKind
from anymri.systems.crops import Sides
from anymri.systems.families.tokens.blocks import SEQUENCE, TokenStream
from anymri.systems.families.tokens.objective import TokenEncoding
from anymri.systems.streams import StreamSystem

T = TypeVar("T", bound=TokenEncoding)


class TokenSystem(StreamSystem[T]):
    """System with one stream per modality: an encoder, and a transformer over the tokens of its coarsest level.

    width        channels of the first encoder level (published: 8)
    token_width  channels of a token (512), a multiple of heads
    mlp_width    channels of the transformers' hidden layers (4096)
    heads        attention heads of the transformers (8)
    crop         sides of the only crop that fits, in voxels, multiples of 16: positions of tokens are learnt
    dropout      of the transformers, in training
    """

    output_kind: ClassVar[OutputKind] = "classes"
    divisor = STRIDE
    crop: Sides
    # Reflecting padding and instance norm need more than one voxel at the coarsest level.
    minimum_side = 2 * STRIDE

    def __init__(
        self,
        width: int,
        token_width: int,
        mlp_width: int,
        heads: int,
        crop: Sides,
        dropout: float,
        num_classes: int,
        modalities: Sequence[str],
    ) -> None:
        super().__init__(num_classes, modalities)
        self.crop = crop
        # Modalities in the order in which their tokens follow each other.
        self.sequence = [self.modalities.index(m) for m in SEQUENCE if m in self.modalities]
        self.streams = ModuleDict(
            {name: TokenStream(width, token_width, mlp_width, heads, crop, dropout) for name in self.modalities}
        )
