"""How the two halves of a system are computed. Lanes of inference have other ways, see `anymri.inference.lanes`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from anymri.systems.contract import Prediction, System


class Computation:
    """Computation by PyTorch, operation by operation, in the precision of the arguments."""

    def encode(self, system: System[Any], images: Tensor, present: Tensor, corners: Tensor | None) -> Any:
        """Return the encoding; the arguments are those of `System.encode`, which has checked them."""
        if corners is None or not system.uses_crop_position:
            return system._encode(images, present)
        return system._encode_at(images, present, corners)

    def decode(self, system: System[Any], encoding: Any, available: Tensor, reconstruct: bool) -> Prediction:
        """Return the prediction; the arguments are those of `System.decode`, which has checked them."""
        return system._decode(encoding, available, reconstruct)


@contextmanager
def computed_by(computation: Computation, system: System[Any]) -> Iterator[None]:
    """Context in which a system is computed in another way."""
    before = system.computation
    system.computation = computation
    try:
        yield
    finally:
        system.computation = before
