"""The four modalities, the names that the world gives them, and the 15 subsets.

Inside anymri a modality is one of the four strings of `MODALITIES`, and arrays hold them in that order. Aliases are
understood by `parse_modality`, at the door, and nowhere else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from anymri.errors import ModalityError

if TYPE_CHECKING:
    import torch

MODALITIES = ("T1", "T1c", "T2", "FLAIR")

_ALIASES = {
    "T1": ("t1", "t1n", "t1w", "t1pre", "t1native"),
    "T1c": ("t1c", "t1ce", "t1gd", "t1post", "t1wce", "t1cw", "t1km", "ct1", "ct1w"),
    "T2": ("t2", "t2w"),
    "FLAIR": ("flair", "t2f", "fla", "t2flair", "flairw"),
}
_BY_ALIAS = {alias: modality for modality, aliases in _ALIASES.items() for alias in aliases}

# Which scan lends its geometry to a segmentation when several are given.
REFERENCE_ORDER = ("T1c", "FLAIR", "T2", "T1")


def find_modality(word: str) -> str | None:
    """The modality that `word` names, in any case of letters, or None."""
    return _BY_ALIAS.get(word.lower())


def parse_modality(word: str) -> str:
    """The modality that `word` names; raises `ModalityError` with the closest alias if it names none."""
    modality = find_modality(word.strip())
    if modality is None:
        close = difflib.get_close_matches(word.strip().lower(), _BY_ALIAS, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise ModalityError(
            f"{word!r} is no modality.",
            f"{hint}Use one of {', '.join(MODALITIES)} (or t1n, t1ce, t1gd, t2w, t2f, ...).",
        )
    return modality


@dataclass(frozen=True)
class Subset:
    """A non-empty set of modalities; prints as `T1c+FLAIR`, always in the order of `MODALITIES`."""

    modalities: tuple[str, ...]

    def __post_init__(self) -> None:
        ordered = tuple(m for m in MODALITIES if m in self.modalities)
        if not ordered:
            raise ModalityError("The subset holds no modality.", f"Name at least one of {', '.join(MODALITIES)}.")
        unknown = set(self.modalities) - set(MODALITIES)
        if unknown:
            raise ModalityError(f"{', '.join(sorted(unknown))}: no modality.", f"Use {', '.join(MODALITIES)}.")
        object.__setattr__(self, "modalities", ordered)

    @classmethod
    def parse(cls, text: str) -> Subset:
        """Reads `T1c+FLAIR`, also with commas or spaces and with any alias."""
        words = text.replace("+", " ").replace(",", " ").split()
        return cls(tuple(parse_modality(word) for word in words))

    @classmethod
    def of(cls, modalities: Iterable[str]) -> Subset:
        """The subset of these modalities, given in any order."""
        return cls(tuple(modalities))

    @classmethod
    def from_flags(cls, flags: Iterable[bool]) -> Subset:
        """Return the subset of the modalities whose flag is true, one flag per modality of `MODALITIES`."""
        return cls(tuple(m for m, flag in zip(MODALITIES, flags, strict=True) if flag))

    @property
    def flags(self) -> tuple[bool, ...]:
        """One truth value for each of `MODALITIES`."""
        return tuple(m in self.modalities for m in MODALITIES)

    def as_tensor(self, batch_size: int = 1) -> torch.Tensor:
        """(batch_size, 4) bool: the same subset for every sample."""
        import torch

        return torch.tensor([self.flags], device="cpu").repeat(batch_size, 1)

    def __str__(self) -> str:
        return "+".join(self.modalities)

    def __iter__(self) -> Iterator[str]:
        return iter(self.modalities)

    def __len__(self) -> int:
        return len(self.modalities)

    def __contains__(self, modality: object) -> bool:
        return modality in self.modalities

    def __le__(self, other: Subset) -> bool:
        return set(self.modalities) <= set(other.modalities)


def as_subset(subset: Subset | str) -> Subset:
    """Return the subset that a name such as "T1c+FLAIR" stands for; a subset is returned as it is."""
    return Subset.parse(subset) if isinstance(subset, str) else subset


# Rows of the papers' tables (protocol sheet, section 6).
SUBSETS = tuple(
    map(
        Subset.parse,
        (
            "T2",
            "T1c",
            "T1",
            "FLAIR",
            "T1c+T2",
            "T1+T1c",
            "T1+FLAIR",
            "T1+T2",
            "T2+FLAIR",
            "T1c+FLAIR",
            "T1+T1c+FLAIR",
            "T1+T2+FLAIR",
            "T1c+T2+FLAIR",
            "T1+T1c+T2",
            "T1+T1c+T2+FLAIR",
        ),
    )
)
ALL = SUBSETS[-1]


def nonempty_subsets(count: int) -> list[tuple[bool, ...]]:
    """All 2**count - 1 non-empty subsets of `count` things as flags, by size and then lexicographic."""
    chosen: list[Sequence[int]] = [c for size in range(1, count + 1) for c in combinations(range(count), size)]
    return [tuple(i in c for i in range(count)) for c in chosen]
