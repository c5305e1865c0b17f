"""Base of the systems that encode each modality alone, before any fusion."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

from torch import Tensor

from anymri.layers.streams import Outputs, encode_existing
from anymri.systems.contract import E, System


class StreamSystem(System[E]):
    """System whose encoding is gathered from outputs of one modality each, computed only where the modality exists.

    The two methods are also what an export turns into graphs: one of `encode_one` per modality, and one of `gather`
    with the decoder.

    decodes_images  whether decoding without a reconstruction reads the images too
    """

    decodes_images: bool = False

    @abstractmethod
    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return what is computed of one modality alone, tensors (B, ...).

        number  index of the modality in `modalities`
        image   (B, 1, X, Y, Z)
        """

    @abstractmethod
    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> E:
        """Return the encoding.

        images   (B, M, X, Y, Z) as given
        present  (B, M) bool
        outputs  of `encode_one` per modality, in the order of `modalities`; zero in samples without it, None for a
                 modality that no sample has
        """

    def _encode(self, images: Tensor, present: Tensor) -> E:
        each = {name: partial(self.encode_one, number) for number, name in enumerate(self.modalities)}
        return self.gather(images, present, encode_existing(each, images, present))
